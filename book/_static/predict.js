// A question before its figure: each answer becomes a button, and choosing one opens what the model does.
for (const box of document.querySelectorAll(".predict")) {
  for (const item of box.querySelectorAll(":scope > ul > li")) {
    const button = document.createElement("button");
    button.type = "button";
    button.innerHTML = (item.querySelector("p") ?? item).innerHTML;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      for (const other of box.querySelectorAll("ul button")) other.setAttribute("aria-pressed", String(other === button));
      box.querySelector("details").open = true;
    });
    item.replaceChildren(button);
  }
}
