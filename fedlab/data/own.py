"""Images from the user's own function."""

from fedlab.core.errors import BadInput
from fedlab.core.factories import resolve
from fedlab.data.images import ImageData
from fedlab.data.request import Request, Source


def load_own(request: Request) -> ImageData:
    """What ``data.factory`` returns.

    Raises:
        BadInput: If there is no such function, or it returns something else.
    """
    path = request.factory or ""
    made = resolve(path)()
    if not isinstance(made, ImageData):
        raise BadInput(f'factory "{path}" must return a fedlab.data.ImageData, not {type(made)}')
    return made


OWN = Source("your own images: data.factory names package.module:function", load_own)
