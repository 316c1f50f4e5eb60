# Copyright (c) The flowfleet.langflow contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server for one test that speaks HTTPS; what it answers, its handler says."""

from __future__ import annotations

import http.server
import threading
from typing import Any


class HttpsFake(http.server.ThreadingHTTPServer):
    """Runs on a free port of 127.0.0.1 from when it is made until its `with` ends."""

    def __init__(self, authority: Any, handler: type[http.server.BaseHTTPRequestHandler], *names: str) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.socket = authority.server_context(*names, "127.0.0.1").wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *args: Any) -> None:
        self.shutdown()
        super().__exit__(*args)


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """Writes no line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
