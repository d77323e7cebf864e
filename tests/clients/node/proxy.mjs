// What stands before a sidecar in a deployment: a server of the application's own, which refreshes sessions itself and
// passes sockets on.

import { createServer } from "node:http";
import { connect } from "node:net";
import { SIDECAR_URL } from "./harness.mjs";

/** Starts one. `refresh` gives the next session; `url` is where it listens. */
export async function startProxy(refresh) {
  const { hostname, port } = new URL(SIDECAR_URL);
  const server = createServer((request, response) => {
    request.resume();
    const isRefresh = request.method === "POST" && request.url.startsWith("/api/auth/refresh");
    response.writeHead(isRefresh ? 200 : 404, { "content-type": "application/json" });
    response.end(JSON.stringify(isRefresh ? refresh() : { error: "NOT_FOUND" }));
  });
  const sockets = new Set();
  server.on("upgrade", (request, socket, head) => {
    const there = connect(port, hostname, () => {
      const headers = request.rawHeaders.map((text, index) => text + (index % 2 ? "\r\n" : ": ")).join("");
      there.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers}\r\n`);
      there.write(head);
      socket.pipe(there).pipe(socket);
    });
    for (const end of [socket, there]) {
      sockets.add(end);
      end.on("error", () => [socket, there].forEach((other) => other.destroy()));
      end.on("close", () => [socket, there].forEach((other) => other.destroy()));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    sockets.forEach((socket) => socket.destroy());
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}
