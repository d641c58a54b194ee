from vfl.transport.wire.traffic import Traffic, TrafficMeter


def test_bytes_are_counted_by_job_peer_and_direction():
    meter = TrafficMeter()
    meter.count_sent("a", "shop", 5)
    meter.count_sent("a", "shop", 6)
    meter.count_received("a", "telco", 7)
    meter.count_sent("b", "shop", 100)
    assert meter.by_peer("a") == {"shop": Traffic(sent=11), "telco": Traffic(received=7)}
    assert meter.total("a") == Traffic(11, 7)
    meter.forget("a")
    assert meter.total("a") == Traffic(0, 0)
    assert meter.total("b") == Traffic(100, 0)
