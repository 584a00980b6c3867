"""A thin client for authors of viewers and scripts: typed prompts, sessions and retries; httpx and numpy, no torch.

    >>> from promptzoo.client import Client, Point                                     # doctest: +SKIP
    >>> with Client("http://127.0.0.1:8000") as client:                                # doctest: +SKIP
    ...     session = client.begin("ts_ct_image")
    ...     answer = session.add(Point((95, 60, 90), space="voxel"))
    ...     labels, affine = session.labelmap()
    ...     session.save()
"""
from promptzoo.client.client import Client
from promptzoo.client.session import Answer, ClientSession
from promptzoo.client.transport import ServerError
from promptzoo.prompts.types import Box, ClassPrompt, Lasso, ObjectInfo, Point, PromptSet, Scribble, TextPrompt

__all__ = ["Answer", "Box", "ClassPrompt", "Client", "ClientSession", "Lasso", "ObjectInfo", "Point", "PromptSet",
           "Scribble", "ServerError", "TextPrompt"]
