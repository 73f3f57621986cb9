"""Every text of the page, in every language."""

import re

from tests.web.messages import FRENCH, compiled, french, used


def test_every_text_is_in_french() -> None:
    known = {message.id: message.string for message in french() if message.id}
    assert [text for text in used() if not known.get(text)] == []


def test_no_french_text_is_left_over() -> None:
    asked = set(used())
    assert [message.id for message in french() if message.id and message.id not in asked] == []


def test_translations_fill_the_same_places() -> None:
    for message in french():
        ids = message.id if isinstance(message.id, tuple) else (message.id,)
        texts = message.string if isinstance(message.string, tuple) else (message.string,)
        places = {place for text in ids for place in re.findall(r"%\(\w+\)[sd]|\{\w+\}", str(text))}
        for text in texts:
            if message.id:
                assert set(re.findall(r"%\(\w+\)[sd]|\{\w+\}", str(text))) == places, message.id


def test_the_compiled_texts_are_those_written_down() -> None:
    # After a change: python -m tests.web.messages
    assert FRENCH.with_suffix(".mo").read_bytes() == compiled(french())
