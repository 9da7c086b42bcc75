"""Reading an exposition; helpers for the tests beside this file."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def parsed(exposition):
    """{(name, labels as a frozenset): value}; a series that is there twice fails."""
    found = {}
    for family in text_string_to_metric_families(exposition):
        assert family.documentation
        for one in family.samples:
            key = (one.name, frozenset(one.labels.items()))
            assert key not in found
            found[key] = one.value
    return found


async def scrape(site, key=None):
    answer = await site.get("/metrics", key=key)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parsed(answer.text)


def of(found, name, **labels):
    """Values of the series of a metric that have these labels, by their other labels' values."""
    wanted = labels.items()
    return {
        tuple(value for name, value in sorted(told) if name not in labels): value
        for (metric, told), value in found.items()
        if metric == name and wanted <= set(told)
    }
