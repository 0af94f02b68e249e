"""One Django for the tests of this process: its settings are given once, and each test changes what it is about."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.test import override_settings
from django.urls import URLPattern, URLResolver

from tests.verifier.issuer import Issuer
from tests.verifier.tokens import AUD

MIDDLEWARE = "groat.verifier.django.GroatMiddleware"

if not settings.configured:
    settings.configure(
        SECRET_KEY="of tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=(),
        MIDDLEWARE=[],
        USE_TZ=True,
        STATIC_URL="/static/",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.staticfiles",
            "rest_framework",
        ],
    )
    django.setup()


@contextmanager
def project(urls: Sequence[URLPattern | URLResolver], **changes: Any) -> Iterator[None]:
    """A project with these URLs and settings."""
    with override_settings(ROOT_URLCONF=tuple(urls), **changes):
        yield


@contextmanager
def site(
    issuer: Issuer, urls: Sequence[URLPattern | URLResolver], *, alone: bool = False, **changes: Any
) -> Iterator[None]:
    """One with a verifier for the issuer; `alone`: without the middleware."""
    own = {"MIDDLEWARE": [] if alone else [MIDDLEWARE], "GROAT_ISSUER": issuer.url, "GROAT_AUDIENCE": AUD}
    with project(urls, **{**own, **changes}):
        yield
