"""Every address of the page."""

from django.urls import path, register_converter

from mongars.web.views import account, chat, preferences


class Id:
    """An opaque id, safe to put into an address of the API."""

    regex = "[A-Za-z0-9_-]{1,64}"

    def to_python(self, value: str) -> str:
        """As it is."""
        return value

    def to_url(self, value: str) -> str:
        """As it is."""
        return value


register_converter(Id, "id")

urlpatterns = [
    path("", chat.home, name="home"),
    path("c/<id:conversation_id>", chat.conversation, name="conversation"),
    path("c/<id:conversation_id>/messages", chat.messages, name="messages"),
    path("c/<id:conversation_id>/rename", chat.rename, name="rename"),
    path("c/<id:conversation_id>/delete", chat.delete, name="delete"),
    path("c/<id:conversation_id>/restore", chat.restore, name="restore"),
    path("conversations", chat.conversations, name="conversations"),
    path("say", chat.say, name="say"),
    path("messages/<id:message_id>/<str:how>", chat.again, name="again"),
    path("turns/<id:turn_id>/stop", chat.stop, name="stop"),
    path("ticket", chat.ticket, name="ticket"),
    path("login", account.login, name="login"),
    path("login/oidc", account.oidc, name="oidc"),
    path("setup", account.setup, name="setup"),
    path("register", account.register, name="register"),
    path("logout", account.logout, name="logout"),
    path("settings", preferences.settings, name="settings"),
    path("settings/look", preferences.look, name="look"),
    path("settings/password", preferences.password, name="password"),
    path("settings/sessions/end", preferences.end_session, name="end-session"),
    path("settings/sessions/end-all", preferences.end_all, name="end-all"),
]

handler400 = "mongars.web.views.errors.bad_request"
handler404 = "mongars.web.views.errors.not_found"
handler500 = "mongars.web.views.errors.broken"
