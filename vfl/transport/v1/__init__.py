"""Generated from protos/vfl/transport/v1 by scripts/generate_protos.sh; do not edit."""
