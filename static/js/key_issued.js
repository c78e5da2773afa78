// The page that shows a new key once: copying, and a reload that leads to a page without it instead of issuing another.

import { copyButtons } from "./clipboard.js";

copyButtons(document);
history.replaceState(null, "", document.querySelector("[data-key-url]").dataset.keyUrl);
