// What configurable-http-proxy lacks, loaded before it (node --import): it takes a renewed certificate without
// a restart, which would cut every kernel's connection, and answers at a second port as well.

import fs from "node:fs";
import https from "node:https";
import net from "node:net";
import process from "node:process";

const SECONDS = Number(process.env.CERTIFICATE_SECONDS || 60);
const { CERTIFICATE, PRIVATE_KEY, SECOND_PORT, SECOND_ADDRESS } = process.env;

const pair = () => ({ cert: fs.readFileSync(CERTIFICATE), key: fs.readFileSync(PRIVATE_KEY) });

// A kubelet replaces both files at once, by a link; between two readings it may do so all the same, and then
// the pair does not fit: the next look takes it.
function renewing(server) {
  let held = pair();
  setInterval(() => {
    try {
      const now = pair();
      if (now.cert.equals(held.cert) && now.key.equals(held.key)) return;
      server.setSecureContext(now);
      held = now;
      console.log("the certificate is renewed");
    } catch (error) {
      console.error(`the certificate cannot be renewed yet: ${error.message}`);
    }
  }, SECONDS * 1000).unref();
}

const create = https.createServer;
https.createServer = (...given) => {
  const server = create(...given);
  renewing(server);
  if (SECOND_PORT) {
    const second = net.createServer((socket) => server.emit("connection", socket));
    second.listen(Number(SECOND_PORT), SECOND_ADDRESS);
  }
  return server;
};
