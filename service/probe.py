"""`python -m service.probe`: does the server in this container answer? The image's health check.

Asks `/livez` at the port that `POWERCUT_PORT` names, through no proxy, and imports nothing heavy: it is started anew
every half minute. Exit code 0 if the process answers, else 1.
"""

import http.client
import os
import sys

PATIENCE_S = 4.0


def answers(port: int) -> bool:
    """Whether `/livez` is answered with 200 on the loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(not answers(int(os.environ.get("POWERCUT_PORT", "8000"))))
