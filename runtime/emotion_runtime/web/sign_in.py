"""The page that asks for the token."""

from html import escape

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in - emotion-runtime</title>
<link rel="stylesheet" href="/app.css">
<link rel="icon" href="/icon.svg">
{head}</head>
<body>
<main class="narrow">
{content}</main>
</body>
</html>
"""
_FORM = """<h1>Sign in</h1>
<p>The program printed a token when it started. It is needed to see this page.</p>
{problem}<form method="post" action="/sign-in">
<p><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required maxlength="512"></p>
<p><button type="submit">Sign in</button></p>
</form>
"""
_AWAY = '<meta http-equiv="refresh" content="0; url=/">\n'
_DONE = """<h1>Signed in</h1>
<p><a href="/">Go on to the page</a></p>
"""


def sign_in_page(problem: str = "") -> str:
    """Return the page, with what went wrong with the last attempt."""
    alert = f'<p role="alert">{escape(problem)}</p>\n' if problem else ""
    return _PAGE.format(head="", content=_FORM.format(problem=alert))


def signed_in_page() -> str:
    """Return the page that leads on after a token was given."""
    return _PAGE.format(head=_AWAY, content=_DONE)
