import pytest

from runtime.errors import RequestError
from runtime.server.openai.responses.pages import Page

ITEMS = [{"id": f"item_{number}"} for number in range(45)]


def numbers(query: dict[str, str]) -> list[int]:
    return [int(item["id"].removeprefix("item_")) for item in Page.of(query).of_items(ITEMS)["data"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [*range(44, 24, -1)]),
        ({"order": "desc", "limit": "2"}, [44, 43]),
        ({"order": "asc", "limit": "100"}, [*range(45)]),
        ({"order": "asc", "limit": "3", "after": "item_7"}, [8, 9, 10]),
        ({"limit": "3", "after": "item_1"}, [0]),
        ({"after": "item_0", "include": "more"}, []),
    ],
    ids=["none", "newest", "all", "after", "end", "beyond"],
)
def test_the_part_that_is_asked_for_is_given(query: dict[str, str], expected: list[int]) -> None:
    assert numbers(query) == expected


def test_a_page_says_where_it_ends_and_whether_there_is_more() -> None:
    page = Page.of({"limit": "2"}).of_items(ITEMS)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("item_44", "item_43", True)
    page = Page.of({"limit": "2", "after": "item_2"}).of_items(ITEMS)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("item_1", "item_0", False)
    page = Page.of({"after": "item_0"}).of_items(ITEMS)
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("", "", False)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_all_pages_together_are_the_list(order: str) -> None:
    seen: list[str] = []
    query = {"order": order, "limit": "10"}
    while True:
        page = Page.of(query).of_items(ITEMS)
        seen += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    expected = [item["id"] for item in ITEMS]
    assert seen == (expected if order == "asc" else expected[::-1])


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"limit": "ten"}, {"limit": "9" * 5000}, {"limit": "²"}, {"order": "up"}],
    ids=["none", "too many", "word", "huge", "no digit", "order"],
)
def test_what_is_no_page_is_refused_by_its_field(query: dict[str, str]) -> None:
    with pytest.raises(RequestError) as refused:
        Page.of(query)
    assert refused.value.param == next(iter(query))


def test_an_item_that_is_not_there_is_refused() -> None:
    with pytest.raises(RequestError, match="'after' is the id of no item") as refused:
        numbers({"after": "item_99"})
    assert refused.value.param == "after"
