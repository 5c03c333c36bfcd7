// A one-time link carries its token behind `#`: it never reaches a log.
import { byId } from "./elements.js";

if (!byLink() && looksAgain()) {
  sessionStorage.setItem("matting.looked", "yes");
  location.replace(location.href);
}
addEventListener("hashchange", byLink); // the link was opened in the tab of this page

// Whether the address has a token, which signs in then.
function byLink() {
  const token = location.hash.slice(1);
  if (!token.startsWith("mtl_")) return false;
  history.replaceState(null, "", location.pathname + location.search);
  byId("key").value = token;
  byId("by-link").hidden = false;
  byId("sign-in").submit();
  return true;
}

// Who comes by a link from elsewhere brings no cookie (SameSite=Strict); a look from this page does.
function looksAgain() {
  const { value } = byId("sign-in").elements.next;
  return value && !document.querySelector(".problem, .note") && !sessionStorage.getItem("matting.looked");
}
