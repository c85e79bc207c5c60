// Light or dark: the system's choice until the toggle has been used, and then what it was left at.
// A plain script in the head, so that a page is never drawn in the wrong one first.
"use strict";
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const shown = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
  const remembered = localStorage.getItem("plaudit-theme");
  if (remembered === "dark" || remembered === "light") root.dataset.theme = remembered;

  // The class is what Swagger UI's own sheet goes by.
  const mark = () => root.classList.toggle("dark-mode", shown() === "dark");
  mark();
  system.addEventListener("change", mark);

  addEventListener("DOMContentLoaded", () => {
    const toggle = document.getElementById("theme");
    const say = () => toggle.setAttribute("aria-pressed", String(shown() === "dark"));
    toggle.addEventListener("click", () => {
      root.dataset.theme = shown() === "dark" ? "light" : "dark";
      localStorage.setItem("plaudit-theme", root.dataset.theme);
      mark();
      say();
    });
    system.addEventListener("change", say);
    say();
  });
}
