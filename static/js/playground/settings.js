// The controls beside the conversation: team, persona, model, parameters. The address may preset the first three.

const $ = (id) => document.getElementById(id);
const STORE = "playground-settings";
const LINE = 60; // characters; what may be longer gets a field of several lines

export class Settings {
  constructor(personas, onChange) {
    this.personas = new Map(personas.map((persona) => [persona.slug, persona]));
    this.models = new Map();
    this.wantedModel = "auto";
    this.filledIn = {}; // what was entered for variables, by name: personas that ask for the same share it
    this.#restore();
    for (const id of ["team", "persona", "model", "temperature", "max-tokens"]) {
      $(id).addEventListener("change", () => {
        if (id === "model") this.wantedModel = $("model").value;
        this.#describe();
        this.#save();
        onChange(id);
      });
    }
    $("variables").addEventListener("input", ({ target }) => {
      this.filledIn[target.name] = target.value;
      this.#save();
    });
    this.#describe();
    this.#showVariables();
    $("persona").addEventListener("change", () => this.#showVariables());
  }

  get value() {
    return {
      team: $("team").value,
      persona: $("persona").value,
      model: $("model").value,
      temperature: $("temperature").value,
      maxTokens: $("max-tokens").value,
      variables: this.#variables(),
    };
  }

  /** What is entered for the persona's template; an optional variable that is left empty gets its default. */
  #variables() {
    const declared = this.persona?.variables ?? [];
    const entered = declared.map(({ name, default: usual }) => [name, this.filledIn[name] ?? "", usual]);
    return Object.fromEntries(entered.filter(([, value, usual]) => value || usual === null).map(([name, value]) => [name, value]));
  }

  get persona() {
    return this.personas.get($("persona").value);
  }

  /** Whether the numbers make sense and nothing is missing; if not, the browser says so at the field. */
  get valid() {
    if (!$("settings").checkValidity()) this.onHidden?.(); // on a phone they are folded away
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
    this.filledIn = { ...stored.filledIn };
    $("temperature").value = stored.temperature ?? "";
    $("max-tokens").value = stored.maxTokens ?? "";
  }

  #save() {
    try {
      sessionStorage.setItem(STORE, JSON.stringify({ ...this.value, filledIn: this.filledIn, model: this.wantedModel }));
    } catch {
      // blocked: nothing is remembered
    }
  }

  #showVariables() {
    const declared = this.persona?.variables ?? [];
    const [legend] = $("variables").children;
    $("variables").replaceChildren(legend, ...declared.map((variable) => this.#field(variable)));
    $("variables").hidden = declared.length === 0;
  }

  #field({ name, description, default: usual, max_length: longest }) {
    const field = document.createElement("div");
    const label = document.createElement("label");
    const input = document.createElement(longest > LINE ? "textarea" : "input");
    field.className = "field";
    input.id = label.htmlFor = `variable-${name}`;
    label.textContent = usual === null ? name : `${name} (optional)`;
    if (longest > LINE) input.rows = 1;
    else input.type = "text"; // which is how the style sheet finds it
    Object.assign(input, { name, maxLength: longest, required: usual === null, placeholder: usual ?? "" });
    input.value = this.filledIn[name] ?? "";
    input.spellcheck = false;
    field.append(label, input);
    if (description) {
      const hint = document.createElement("p");
      hint.className = "hint";
      hint.id = `${input.id}-about`;
      hint.textContent = description;
      input.setAttribute("aria-describedby", hint.id);
      field.append(hint);
    }
    return field;
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
