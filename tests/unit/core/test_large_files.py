"""What is worked out for every entry of a large file does not look at all the others again."""

from voicegw_mcp.core import catalog as catalogs
from voicegw_mcp.core.catalog import MOST_GUESSES, Catalog

NUMBER = 200


def a_file(provider="p"):
    providers = "".join(f"  p{n}: {{type: openai}}\n" for n in range(NUMBER))
    models = "".join(f"    m{n}: {{provider: {provider}{n % 100}, model: m}}\n" for n in range(NUMBER))
    return f"providers:\n{providers}models:\n  llm:\n{models}"


def test_the_models_of_each_provider_are_found_in_one_pass_in_the_order_of_the_file(configuration):
    catalog = Catalog(configuration(a_file()))
    assert catalog.models_of_provider("p7") == ["m7", "m107"]
    assert catalog.models_of_provider("p150") == catalog.models_of_provider("none") == []
    found = catalog.models_of_provider("p7")
    found.clear()
    assert catalog.models_of_provider("p7") == ["m7", "m107"]


def test_every_entry_has_its_line(configuration):
    catalog = Catalog(configuration(a_file()))
    assert [entry.place.line for entry in catalog.providers.values()] == list(range(2, NUMBER + 2))
    assert [entry.place.line for entry in catalog.models.values()] == list(range(NUMBER + 4, 2 * NUMBER + 4))


def test_a_near_name_is_looked_for_once_for_each_of_the_first_names_that_lead_nowhere(
    configuration, monkeypatch
):
    asked = []
    plain = catalogs.nearest

    def counted(name, *rest, **named):
        asked.append(name)
        return plain(name, *rest, **named)

    monkeypatch.setattr(catalogs, "nearest", counted)
    warnings = Catalog(configuration(a_file("pp"))).warnings
    assert len(warnings) == NUMBER
    assert asked == [f"pp{n}" for n in range(MOST_GUESSES)]
    assert [w.hint.startswith("Did you mean") for w in warnings[:100]] == [True] * MOST_GUESSES + [False] * (
        100 - MOST_GUESSES
    )
    assert warnings[100].hint == warnings[0].hint
