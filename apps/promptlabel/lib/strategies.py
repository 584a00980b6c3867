"""The strategies as MONAI Label's clients ask for them."""
from monailabel.interfaces.tasks.strategy import Strategy


class NextCase(Strategy):
    """One strategy of the worklist.

    Args:
        desk: :class:`lib.desk.Desk`.
        name: of the strategy.
    """

    def __init__(self, desk, name):
        super().__init__(desk.strategies()[name])
        self.desk, self.name = desk, name

    def __call__(self, request, datastore):
        """The next image, with the reason; None if there is none."""
        chosen = self.desk.next_case(self.name, str(request.get("user") or request.get("client_id") or ""))
        return chosen if chosen["id"] else None
