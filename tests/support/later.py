"""The sweep as an engine sees it, for tests without one: it takes notes."""


class Noted:
    """What an engine has asked to have looked at again."""

    def __init__(self) -> None:
        self.looks_ms: list[int] = []
        self.put_back_ids: list[str] = []

    def check_after(self, delay_ms: int) -> None:
        """Take note of a look."""
        self.looks_ms.append(delay_ms)

    def put_back(self, order_id: str) -> None:
        """Take note of a wake-up that was spent in vain."""
        self.put_back_ids.append(order_id)
