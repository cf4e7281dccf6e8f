// Formulas on every page, also after instant navigation, from the files beside this one: no network.
document$.subscribe(({ body }) =>
  body.querySelectorAll(".arithmatex").forEach((element) =>
    renderMathInElement(element, {
      delimiters: [
        { left: "\\(", right: "\\)", display: false },
        { left: "\\[", right: "\\]", display: true },
      ],
    })
  )
);
