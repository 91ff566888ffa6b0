"""`infrawatch database-url`: the embedded database's URL, for SQL tools."""

from infrawatch.cli.options import DataDir, read_settings
from infrawatch.embedded.endpoint import Endpoint
from infrawatch.embedded.home import Home
from infrawatch.settings import Settings


def database_url(data_dir: DataDir = None) -> None:
    """Print the URL of the embedded database, for psql and BI tools.

    It stays the same across restarts, and is printed whether the server runs or not.
    """
    home = Home.resolve(read_settings(Settings, data_dir=data_dir).data_dir)
    print(Endpoint.of(home).url())
