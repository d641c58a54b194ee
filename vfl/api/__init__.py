"""What ``import vfl`` offers: tables, parties and jobs as objects, simulation, serving, training, estimators."""
