"""What all requests of one application share."""

from sampler.engine import Engine
from service.admission import Admission
from service.drain import Drain
from service.keys import read_keys
from service.settings import Settings, revealed
from service.telemetry import Sources, Telemetry
from service.watched import WatchedEngine


class House:
    """The engine, the settings, the account of who runs, the counters, the keys, and whether the server stops."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.settings, self.telemetry = settings, Telemetry(engine.info.model)
        self.keys, self.drain = read_keys(revealed(settings.keys), settings.key_file), Drain(settings.drain_s)
        self.engine = WatchedEngine(engine, self.telemetry)
        self.admission = Admission(settings, self.telemetry.refused)
        self.in_flight = 0
        """Answers that run now."""
        account = self.admission
        self.telemetry.observe(
            Sources(
                running=lambda: account.running_requests,
                waiting=lambda: account.queued_requests,
                running_tokens=lambda: account.running_tokens,
                queued_tokens=lambda: account.queued_tokens,
                chains=lambda: self.in_flight,
                alive=lambda: self.engine.alive,
            )
        )
