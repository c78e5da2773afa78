// The page that shows a new key once: copying, and a reload that leads to the key's page instead of issuing another.

import { copyButtons } from "./clipboard.js";

copyButtons(document);
history.replaceState(null, "", document.querySelector("[data-key-url]").dataset.keyUrl);
