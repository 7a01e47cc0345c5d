"""Every exception the sampler raises on purpose.

SamplerError
├── InvalidParams          the caller's fault: names the field and the limit
│   ├── ModelNotFound      no model under this name, folder or file
│   ├── NoChatTemplate     messages, but the model has no template for them
│   └── ContextExceeded    prompt and response together do not fit the model
├── EngineError            one engine call failed; the same call may be tried again
│   ├── EngineOverloaded   no room now, try later
│   ├── EngineOutOfMemory  the call did not fit
│   └── EngineDead         the engine is gone: no later call will work
└── NumericalError         a starting trace holds NaN: there is nothing to sample from
"""


class SamplerError(Exception):
    """Base of every error the sampler raises on purpose."""


class InvalidParams(SamplerError):
    """A parameter is out of range or not supported here.

    `field` is the dotted name a caller would recognise, such as `power.alpha`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ModelNotFound(InvalidParams):
    """No model under the given name, folder or file."""

    def __init__(self, message: str) -> None:
        super().__init__("model", message)


class NoChatTemplate(InvalidParams):
    """Messages were given to a model that has no template to write them with."""

    def __init__(self) -> None:
        super().__init__(
            "messages", "this model has no chat template: a base model continues text, so use POST /v1/completions"
        )


class ContextExceeded(InvalidParams):
    """Prompt and response together do not fit the model's context."""


class EngineError(SamplerError):
    """One engine call failed. A chain asks again with the same draw key, never with a new one."""


class EngineOverloaded(EngineError):
    """The engine has no room for the call now."""


class EngineOutOfMemory(EngineError):
    """The call did not fit into memory."""


class EngineDead(EngineError):
    """The engine is gone and will not come back by itself."""


class NumericalError(SamplerError):
    """The starting trace holds a statistic that is not a number."""
