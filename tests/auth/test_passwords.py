import pytest

from mongars.auth.passwords import Passwords
from mongars.auth.settings import AuthSettings
from mongars.errors import Invalid
from tests.auth.conftest import PASSWORD


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(AuthSettings())


@pytest.mark.parametrize(
    "weak",
    ["short-1!", "password1234", "aaaaaaaaaaaaaaaa", "alice-alice-alice", "a" * 100, "é" * 600],
)
async def test_a_weak_password_is_refused_without_being_told_back(
    passwords: Passwords, weak: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await passwords.check_strength(weak, "alice")
    assert refused.value.errors[0].loc == ("body", "password")
    assert weak not in str(refused.value)


async def test_a_strong_password_passes_and_is_kept_as_argon2id(passwords: Passwords) -> None:
    await passwords.check_strength(PASSWORD, "alice")
    kept = await passwords.hash(PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(PASSWORD, kept) == (True, None)
    assert await passwords.verify(PASSWORD + "x", kept) == (False, None)


async def test_the_same_password_typed_on_another_keyboard_is_the_same(
    passwords: Passwords,
) -> None:
    kept = await passwords.hash("caf\u00e9 correct horse")
    assert (await passwords.verify("cafe\u0301 correct horse", kept))[0]


async def test_a_hash_of_older_settings_is_made_anew(passwords: Passwords) -> None:
    kept = await Passwords(AuthSettings(hash_passes=3)).hash(PASSWORD)
    right, fresh = await passwords.verify(PASSWORD, kept)
    assert right
    assert fresh is not None
    assert "t=2" in fresh


async def test_nobodys_password_is_never_right(passwords: Passwords) -> None:
    assert await passwords.verify("", None) == (False, None)
    assert await passwords.verify("x" * 5000, await passwords.hash(PASSWORD)) == (False, None)
