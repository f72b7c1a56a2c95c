// Starts the language server on standard input and output, as an editor does.
import { createRequire } from "node:module";

process.argv.push("--stdio");
createRequire(import.meta.url)("yaml-language-server/out/server/src/server.js");
