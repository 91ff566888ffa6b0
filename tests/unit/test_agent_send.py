"""The sender, against a server that fails in every way a server can."""
from told_server import ToldServer, told_server
async def test_x() -> None:
    async with told_server() as s:
        assert isinstance(s, ToldServer)
