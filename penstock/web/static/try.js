// Score the row again while a person types. Without this script, the button does the same.
"use strict";
const form = document.getElementById("row");
let waiting = 0;
let asked = 0;
async function score() {
  const number = ++asked;
  const body = new URLSearchParams(new FormData(form));
  let found;
  try {
    const answer = await fetch(location.href, { method: "POST", body });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    found = (page.getElementById("result") || page.querySelector("main") || page.body).childNodes;
  } catch {
    found = ["The server does not answer, so this row has no score."];
  }
  if (number === asked) document.getElementById("result").replaceChildren(...found);
}
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(score, 300);
});
