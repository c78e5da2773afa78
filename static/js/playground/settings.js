// The controls beside the conversation: team, persona, model, parameters. The address may preset the first three.

const $ = (id) => document.getElementById(id);
const STORE = "playground-settings";

export class Settings {
  constructor(personas, onChange) {
    this.personas = new Map(personas.map((persona) => [persona.slug, persona]));
    this.models = new Map();
    this.wantedModel = "auto";
    this.#restore();
    for (const id of ["team", "persona", "model", "temperature", "max-tokens"]) {
      $(id).addEventListener("change", () => {
        if (id === "model") this.wantedModel = $("model").value;
        this.#describe();
        this.#save();
        onChange(id);
      });
    }
    this.#describe();
  }

  get value() {
    return {
      team: $("team").value,
      persona: $("persona").value,
      model: $("model").value,
      temperature: $("temperature").value,
      maxTokens: $("max-tokens").value,
    };
  }

  get persona() {
    return this.personas.get($("persona").value);
  }

  /** Whether the numbers make sense; if not, the browser says so at the field. */
  get valid() {
    return $("settings").reportValidity();
  }

  #restore() {
    let stored = {};
    try {
      stored = JSON.parse(sessionStorage.getItem(STORE)) ?? {};
    } catch {
      // blocked or damaged: the defaults it is
    }
    const asked = Object.fromEntries(new URLSearchParams(location.search));
    const wanted = { ...stored, ...asked };
    this.wantedModel = wanted.model || "auto";
    for (const [id, value] of [["team", wanted.team], ["persona", wanted.persona]]) {
      if ([...$(id).options].some((option) => option.value === value)) $(id).value = value;
    }
    $("temperature").value = stored.temperature ?? "";
    $("max-tokens").value = stored.maxTokens ?? "";
  }

  #save() {
    try {
      sessionStorage.setItem(STORE, JSON.stringify({ ...this.value, model: this.wantedModel }));
    } catch {
      // blocked: nothing is remembered
    }
  }

  offer(models) {
    this.models = new Map(models.filter(({ id }) => id !== "auto").map((model) => [model.id, model]));
    const options = [...this.models.keys()].map((id) => new Option(id, id));
    $("model").replaceChildren(new Option("auto (the policy decides)", "auto"), ...options);
    $("model").value = this.models.has(this.wantedModel) ? this.wantedModel : "auto";
    this.#describe();
  }

  #describe() {
    const { persona } = this;
    const model = this.models.get($("model").value);
    $("persona-about").textContent = persona?.description ?? "No system prompt; the default policy decides.";
    $("system-prompt").textContent = persona?.system_prompt || "";
    $("system-prompt-box").hidden = !persona?.system_prompt;
    $("temperature").placeholder = persona?.temperature ?? "model's own";
    $("max-tokens").placeholder = persona?.max_tokens ?? "model's own";
    $("model-about").textContent = model
      ? model.description || "Asked for by name; its first free deployment answers."
      : "Picks the model by the persona's policy and says why.";
    $("settings-summary").textContent = [persona?.name ?? "No persona", $("model").value].join(" · ");
  }
}
