// Loaded before the first paint, so that a page never flashes in the wrong theme. Not a module: modules are deferred.
try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is blocked: the system's own theme it is.
}
