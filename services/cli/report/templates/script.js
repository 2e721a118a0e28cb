// Touch screens have no hover: a tap on a token shows its value at the foot of the page.
"use strict";
const readout = document.getElementById("readout");
document.addEventListener("click", (event) => {
  const token = event.target.closest("mark[title]");
  readout.hidden = !token;
  if (token) readout.textContent = token.title;
});
