"""An answer rendered while it grows."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from mongars.bouche import Block, BlockRenderer, render

WORD = st.sampled_from(
    ["tea", "**bold**", "`code`", "été", "$x^2$", "1.", "a|b", "日本", "👩‍🚀", "_it_"]
)
LINE = st.lists(WORD, min_size=1, max_size=6).map(lambda words: "so " + " ".join(words))
PARAGRAPH = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
BLOCK = st.one_of(
    PARAGRAPH,
    LINE.map(lambda line: f"## {line}"),
    st.lists(LINE, min_size=1, max_size=4).map(lambda ls: "\n".join(f"- {one}" for one in ls)),
    st.lists(LINE, min_size=1, max_size=4).map(lambda ls: "\n\n".join(f"1. {one}" for one in ls)),
    LINE.map(lambda line: f"- {line}\n\n  ```py\n  x = 1\n\n  y = 2\n  ```\n- {line}"),
    LINE.map(lambda line: f"```python\n{line}\n\n- no list\n\n# no heading\n```"),
    LINE.map(lambda line: f"~~~~\n```\n{line}\n\n~~~\n~~~~"),
    LINE.map(lambda line: f"> {line}\n>\n> - {line}"),
    st.just("| a | b |\n|---|--:|\n| 1 | 2 |"),
    st.just("$$\n\\sum_i x_i\n$$"),
    st.just("\\[\na = b\n\\]"),
    st.just("***"),
    st.just("    indented\n\n    code"),
)
ORDINARY = st.lists(BLOCK, max_size=8).map("\n\n".join)
MARKS = st.text(alphabet="ab1 \n\n`~-*#>|$.=\t:\\[]()_\r", max_size=120)


def fed(text: str, sizes: list[int]) -> list[Block]:
    """Feed a text in pieces of these sizes, round and round."""
    renderer = BlockRenderer()
    blocks: list[Block] = []
    at = turn = 0
    while at < len(text):
        step = sizes[turn % len(sizes)]
        blocks += renderer.feed(text[at : at + step])
        at, turn = at + step, turn + 1
    return blocks + renderer.finish()


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@settings(max_examples=250, deadline=None)
@given(text=ORDINARY, sizes=SIZES)
def test_block_by_block_equals_the_whole(text: str, sizes: list[int]) -> None:
    blocks = fed(text, sizes)
    assert "".join(block.html for block in blocks) == render(text)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    assert blocks == [] or blocks[-1].upto == len(text)


@settings(max_examples=400, deadline=None)
@given(text=MARKS, sizes=SIZES)
def test_any_mess_of_marks_comes_out_the_same_too(text: str, sizes: list[int]) -> None:
    if "]:" in text:  # link definitions reach back, and a block that is out stays as it is
        return
    assert "".join(block.html for block in fed(text, sizes)) == render(text)


def test_a_paragraph_is_out_as_soon_as_its_blank_line_is_there() -> None:
    renderer = BlockRenderer()
    assert renderer.feed("Hello **you**.\n") == []
    assert renderer.feed("\n") == [Block(0, "<p>Hello <strong>you</strong>.</p>\n", 16)]


def test_a_program_is_out_as_soon_as_its_fence_is_closed_and_never_before() -> None:
    renderer = BlockRenderer()
    assert renderer.feed("```\none\n\ntwo\n\nthree\n") == []
    blocks = renderer.feed("```\n")
    assert len(blocks) == 1
    assert "three" in blocks[0].html


def test_a_list_is_never_cut_in_the_middle() -> None:
    renderer = BlockRenderer()
    assert renderer.feed("- a\n\n- b\n\n  more\n\n- c\n\n") == []
    assert [block.html.count("<li>") for block in renderer.feed("After")] == [3]


def test_an_unknown_end_loses_nothing() -> None:
    renderer = BlockRenderer()
    renderer.feed("```python\nx = 1")
    assert "x" in renderer.finish()[0].html
    assert BlockRenderer().finish() == []


def _seconds(piece: str, times: int) -> float:
    renderer = BlockRenderer()
    began = time.process_time()
    for _ in range(times):
        renderer.feed(piece)
    renderer.finish()
    return time.process_time() - began


def test_the_cost_of_a_character_does_not_grow_with_the_answer() -> None:
    pieces = ["word after word\n\n", "- item of a list\n\n", "x = 1\n\n# no heading\n"]
    pieces.append("[a]: https://a.example\n\n")  # never a block of its own: nothing can be cut
    for piece in pieces:
        first = "```\n" if piece.startswith("x") else ""
        _seconds(first + piece, 50)  # imports
        short = min(_seconds(piece, 250) for _ in range(3))
        long = min(_seconds(piece, 2_000) for _ in range(2))
        assert long < 8 * short * 3, piece


def test_an_open_fence_is_not_parsed_for_every_delta() -> None:
    renderer = BlockRenderer()
    renderer.feed("```python\n")
    began = time.process_time()
    for _ in range(20_000):
        renderer.feed("a = 1\n\n")
    assert time.process_time() - began < 2
