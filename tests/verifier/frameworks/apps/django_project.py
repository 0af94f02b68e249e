"""The project that both apps of Django serve: the middleware, and `require` above a view."""

import os

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path

from groat.verifier.django import GroatRequest, require
from tests.verifier.frameworks.apps import SCOPES, verifier

settings.configure(
    SECRET_KEY=os.urandom(16).hex(),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "groat.verifier.django.GroatMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    GROAT_VERIFIER=verifier(),
    GROAT_SCOPES=SCOPES,
    GROAT_EXEMPT=["/health"],
)


def health(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@require("orders:write")
def protected(request: GroatRequest) -> JsonResponse:
    return JsonResponse({"client": request.caller.client_id})


def whoami(request: GroatRequest) -> JsonResponse:
    return JsonResponse({"client": request.caller.client_id, "scopes": sorted(request.caller.scopes)})


urlpatterns = [path("health", health), path("protected", protected), path("whoami", whoami)]
