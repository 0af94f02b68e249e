"""Django by WSGI, in gunicorn."""

from django.core.wsgi import get_wsgi_application

from tests.verifier.frameworks.apps import django_project
from tests.verifier.frameworks.apps.under_gunicorn import serve

if __name__ == "__main__":
    assert django_project.urlpatterns
    serve(get_wsgi_application)
