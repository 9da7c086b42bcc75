"""Settings: what is wrong is said with the variable's name, and nothing is guessed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from store.errors import SettingsError
from store.settings import Settings, describe


def test_defaults_are_what_describe_says():
    environ = {variable: default for variable, default, _ in describe() if default}
    assert Settings.from_env(environ) == Settings()


def test_values_are_parsed_in_their_units():
    read = Settings.from_env(
        {
            "TOLLWATCH_RETAIN_SAMPLES": "2y",
            "TOLLWATCH_CLOCK_SKEW": "250ms",
            "TOLLWATCH_MAX_BODY": "512k",
            "TOLLWATCH_RPC_URLS": "https://a.example/x?key=1, http://b:8899",
            "TOLLWATCH_HOME": "/data",
            "TOLLWATCH_SANDBOX": "yes",
            "PATH": "/bin",
            "TOLLWATCH_TEST_DATABASE_URLS": "anything",
            "TOLLWATCH_PORT": "",
        }
    )
    assert read.retain_samples == timedelta(days=730)
    assert read.clock_skew == timedelta(milliseconds=250)
    assert read.max_body == 512 * 1024
    assert read.rpc_urls == ("https://a.example/x?key=1", "http://b:8899")
    assert (read.home, read.sandbox, read.port) == (Path("/data"), True, 8402)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("TOLLWATCH_PORT", "0", "TOLLWATCH_PORT must be a TCP port"),
        ("TOLLWATCH_PORT", "８４０２", "a TCP port"),
        ("TOLLWATCH_LATE_WINDOW", "7", "a duration such as"),
        ("TOLLWATCH_MAX_BODY", "8 parsecs", "a size in bytes"),
        ("TOLLWATCH_POOL_SIZE", "-1", "a whole number"),
        ("TOLLWATCH_SANDBOX", "perhaps", "true or false"),
        ("TOLLWATCH_RPC_URLS", "localhost:8899", "http:// or https://"),
        ("TOLLWATCH_DATABASE_URL", "mysql://x", "postgresql://"),
        ("TOLLWATCH_NETWORK", "mainnet", "CAIP-2"),
        ("TOLLWATCH_LOG_LEVEL", "loud", "debug or info"),
        ("TOLLWATCH_RETAIN_SAMPELS", "1d", "did you mean TOLLWATCH_RETAIN_SAMPLES"),
        ("TOLLWATCH_XYZZY", "1", "see `tollwatch settings`"),
    ],
)
def test_a_wrong_value_names_its_variable_and_the_form(variable, text, message):
    with pytest.raises(SettingsError, match=message):
        Settings.from_env({variable: text})
