"use strict";
{
  const part = (name) => document.getElementById(`viewer-${name}`);
  const { axes, steps, pictures, pixelated } = JSON.parse(part("data").textContent);
  const viewer = document.getElementById("viewer");
  let now = steps[0];

  const element = (tag, text = "", facts = {}) => {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(facts)) made.setAttribute(name, value);
    return made;
  };

  // The step with this value on one axis that has most in common with the present one; the last
  // axis, the defense, counts most.
  const go = (axis, place) => {
    const common = (step) =>
      step.at.reduce((sum, at, each) => sum + (at === now.at[each] ? 2 ** each : 0), 0);
    const there = steps.filter((step) => step.at[axis] === place);
    if (!there.length) return;
    now = there.reduce((best, step) => (common(step) > common(best) ? step : best));
    draw();
  };

  const controls = axes.map(({ name, values }, axis) => {
    const button = (by, text, word) => {
      const made = element("button", text, { type: "button", "aria-label": `${word} ${name}` });
      made.addEventListener("click", () => go(axis, now.at[axis] + by));
      return made;
    };
    const select = element("select", "", { "aria-label": name });
    select.append(...values.map((value) => element("option", value)));
    select.addEventListener("change", () => go(axis, select.selectedIndex));
    const buttons = [button(-1, "\u2039", "Previous"), button(1, "\u203a", "Next")];
    const control = element("div", "", { class: "axis" });
    control.append(element("span", name), buttons[0], select, buttons[1]);
    part("axes").append(control);
    return { select, buttons, last: values.length - 1 };
  });

  const shown = (image) => {
    const figure = element("figure");
    const pair = element("div", "", { class: "pair" });
    for (const [name, place] of image.pictures) {
      const half = element("div");
      const alt = `${name} image ${image.image}`;
      const picture = element("img", "", { alt, class: pixelated ? "pixelated" : "" });
      picture.src = `data:image/png;base64,${pictures[place]}`;
      if (name === "rebuilt") picture.style.borderColor = image.colour;
      half.append(element("span", name), picture);
      pair.append(half);
    }
    const words = element("figcaption");
    words.append(
      element("strong", `${image.psnr}: ${image.verdict}`),
      element("span", `chance ${image.chance}, SSIM ${image.ssim}`),
      element("span", `defense: ${image.defense}`),
      element("span", image.attack),
      element("span", [`image ${image.image}`, image.place].filter(Boolean).join(", ")),
    );
    figure.append(pair, words);
    return figure;
  };

  const draw = () => {
    controls.forEach(({ select, buttons, last }, axis) => {
      select.selectedIndex = now.at[axis];
      // A disabled button would lose the focus, and the keys with it.
      buttons[0].setAttribute("aria-disabled", now.at[axis] === 0);
      buttons[1].setAttribute("aria-disabled", now.at[axis] === last);
    });
    const place = axes.map(({ name, values }, axis) => `${name} ${values[now.at[axis]]}`);
    const count = (word) => now.images.filter(({ verdict }) => verdict === word).length;
    const unscored = count("unscored");
    part("status").textContent =
      `${place.join(", ")}; reconstructions that leak: ${count("leaks")} of ${now.images.length}`
      + (unscored ? `, unscored: ${unscored}` : "");
    part("images").replaceChildren(...now.images.map(shown));
  };

  const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, -1], ArrowDown: [1, 1] };
  viewer.addEventListener("keydown", (event) => {
    const [axis, by] = keys[event.key] ?? [];
    if (by === undefined || event.target.tagName === "SELECT") return;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const moved = event.shiftKey && axes.length > 2 ? 2 : axis;
    go(moved, now.at[moved] + by);
  });
  part("keys").textContent = "Keys: \u2190 \u2192 change the round, \u2191 \u2193 the client"
    + (axes.length > 2 ? `, with Shift the ${axes[2].name}.` : ".");
  viewer.hidden = false;
  draw();
}
