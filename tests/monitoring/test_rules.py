"""The rules by themselves: what promtool says of them, and what they promise to whoever is called."""

import re

import pytest
from prometheus import DEPLOY, ROOT, RULES, promtool

TESTS = sorted((DEPLOY / "prometheus/tests").glob("*.yml"))
ALERTS = (DEPLOY / "prometheus/rules/alerts.yml").read_text()
RUNBOOK = (ROOT / "docs/RUNBOOK.md").read_text()


def alerts():
    """The text of each alert, by its name."""
    parts = re.split(r"^ +- alert: (\w+)$", ALERTS, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def test_prometheus_takes_the_configuration():
    # It looks at the rules, too.
    assert "2 rule files found" in promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert promtool("check", "rules", *RULES).count("SUCCESS") == len(RULES)


def test_the_rules_do_as_their_tests_say():
    assert TESTS and "SUCCESS" in promtool("test", "rules", *TESTS)


def test_every_alert_is_tested():
    tested = set(re.findall(r"""labels: '\{alertname="(\w+)"\}'""", "".join(path.read_text() for path in TESTS)))
    assert tested == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_to_do(name):
    text = alerts()[name]
    assert re.search(r"severity: (critical|warning)\n", text)
    assert re.search(r'summary: ".+"\n', text) and "description: >-\n" in text
    assert f"runbook: docs/RUNBOOK.md#{name.lower()}\n" in text
    [section] = re.findall(rf"^## {name}\n\n(.+?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    for part in ("**It means**", "**Look at**", "**Do**"):
        assert part in section, f"the runbook's section on {name} has no {part}"


def test_the_runbook_speaks_of_no_other_alert():
    assert set(re.findall(r"^## (Thalweg\w+)$", RUNBOOK, re.MULTILINE)) == set(alerts())


def test_failures_are_what_the_server_answers_for():
    """All codes with a status of 500 and more, less those that no model's request has, or that send clients elsewhere."""
    protocol = (ROOT / "docs/PROTOCOL.md").read_text()
    own = set(re.findall(r"^\| `(\w+)` \| 5\d\d \|", protocol, re.MULTILINE))
    recording = (DEPLOY / "prometheus/rules/recording.yml").read_text()
    counted = set(re.findall(r'reason=~"([\w|]+)"', recording))
    assert len(counted) == 1 and set(counted.pop().split("|")) == own - {"shutting_down", "connections_full"}
