"""The server, as a client sees it."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from promptzoo.client.session import PATH, ClientSession
from promptzoo.client.transport import Transport

LEARNING = "/promptzoo/learning"


class Client:
    """A promptzoo server.

    Args:
        url: for example ``http://127.0.0.1:8000``.
        token: bearer token of a server that was started with ``--token-file``.
        timeout_s, retries, more: see :class:`promptzoo.client.transport.Transport`.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = 120.0, retries: int = 4, **more: Any) -> None:
        self._transport = Transport(url, token, timeout_s, retries, **more)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; sessions stay on the server."""
        self._transport.close()

    def config(self) -> Mapping[str, Any]:
        """``bundles`` with the prompts they take, and ``strategies`` for the next case."""
        return self._transport.send("GET", "/promptzoo/viewer/config").json()

    def images(self) -> list[str]:
        """Ids of the images."""
        return sorted(self._transport.send("GET", "/datastore/", output="all").json()["objects"])

    def next(self, strategy: str = "first", user: str = "") -> Mapping[str, Any]:
        """The next case of a strategy: ``image`` (None if none is left), ``study``, ``series``, ``reason``.

        Args:
            strategy: see ``strategies`` of :meth:`config`.
            user: who works on it; nobody else is given it meanwhile.
        """
        return self._transport.send("GET", "/promptzoo/viewer/next", strategy=strategy, user=user).json()

    def words(self, text: str, image: str = "", bundle: str = "auto") -> Mapping[str, Any]:
        """How a text is read: ``names`` of what it asks for, or ``question`` and ``candidates``; ``note``.

        Args:
            text: a name, a list or a sentence.
            image: id of the image that it is about.
            bundle: who shall answer it.
        """
        return self._transport.send("GET", "/promptzoo/viewer/words", text=text, image=image, bundle=bundle).json()

    def learning(self, bundle: str) -> Mapping[str, Any]:
        """What a bundle has learned from saved labels, and how far a training is.

        Returns:
            ``version`` served now, ``versions`` with ``number``, ``before`` and ``after``, ``corrected`` (images with a
            final label), ``progress`` with its ``state``, ``last`` (the last training).
        """
        return self._transport.send("GET", f"{LEARNING}/{bundle}").json()

    def train(self, bundle: str, iterations: int | None = None, minutes: float | None = None) -> Mapping[str, Any]:
        """Start a training on the saved labels; it runs on the server in the background, see :meth:`learning`.

        Raises:
            ServerError: if the bundle cannot be trained (404), a training runs or there are fewer than two labels
                (409).
        """
        body = {"iterations": iterations, "minutes": minutes}
        return self._transport.send("POST", f"{LEARNING}/{bundle}/training", body).json()

    def cancel_training(self, bundle: str) -> Mapping[str, Any]:
        """End the training that runs; the version in use stays. Raises ServerError (409) if none runs."""
        return self._transport.send("DELETE", f"{LEARNING}/{bundle}/training").json()

    def use_version(self, bundle: str, number: int) -> Mapping[str, Any]:
        """Serve a version, 0 for the one that came with promptzoo."""
        return self._transport.send("PUT", f"{LEARNING}/{bundle}/version", {"number": number}).json()

    def roll_back(self, bundle: str) -> Mapping[str, Any]:
        """Serve the version that was served before. Raises ServerError (409) if there is none."""
        return self._transport.send("POST", f"{LEARNING}/{bundle}/rollback", {}).json()

    def begin(self, image: str, bundle: str = "auto", user: str = "", kinds: Sequence[str] = (),
              texts: Sequence[str] = ()) -> ClientSession:
        """Begin a session.

        Args:
            image: id of an image.
            bundle: who shall answer; ``auto`` takes one that fits the image, takes ``kinds`` and knows what ``texts``
                name.
            user: who prompts, best a pseudonym.
            kinds: kinds of prompt to come, for example ``("text",)``.
            texts: texts to come, for example ``("left kidney",)``.

        Raises:
            ServerError: if there is no such image or bundle (404), or no bundle understands a text (422).
        """
        body = {"image": image, "bundle": bundle, "user": user, "kinds": list(kinds), "texts": list(texts)}
        return ClientSession(self._transport, self._transport.send("POST", PATH, body).json())

    def open(self, session_id: str) -> ClientSession:
        """Go on with a session. Raises ServerError (404) if there is none of that id."""
        return ClientSession(self._transport, self._transport.send("GET", f"{PATH}/{session_id}").json())

    def sessions(self, user: str | None = None, image: str | None = None, limit: int = 100, offset: int = 0
                 ) -> list[Mapping[str, Any]]:
        """Sessions, the one changed last first."""
        return self._transport.send("GET", PATH, user=user, image=image, limit=limit, offset=offset).json()["sessions"]

    def restore(self, document: Mapping[str, Any], image: str, user: str = "", present_bundle: bool = False
                ) -> ClientSession:
        """Make a session from the export of another.

        Args:
            document: what :meth:`ClientSession.export` returned.
            image: id of the same image on this server.
            user: whose session it shall be.
            present_bundle: answer with the bundle version that is installed here.
        """
        body = {"document": dict(document), "image": image, "user": user, "present_bundle": present_bundle}
        return ClientSession(self._transport, self._transport.send("POST", f"{PATH}/import", body).json())
