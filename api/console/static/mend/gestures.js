// Pointers on the canvas: one paints; two fingers, the middle button or Space move; the wheel zooms.
export function followGestures(canvas, view, { begin, go, end, drop, hover, zoomed }) {
  const fingers = new Map();
  let space = false, moving = null, painting = null;

  addEventListener("keydown", (event) => { if (event.key === " " && event.target === canvas) { space = true; event.preventDefault(); } });
  addEventListener("keyup", (event) => { if (event.key === " ") space = false; });

  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") fingers.set(event.pointerId, event);
    if (fingers.size === 2) { if (painting !== null) { painting = null; drop(); } return; }
    if (space || event.button === 1) { moving = event; return; }
    if (event.button !== 0 || fingers.size > 2) return;
    event.preventDefault();
    painting = event.pointerId;
    begin(event);
  });

  canvas.addEventListener("pointermove", (event) => {
    if (fingers.has(event.pointerId)) {
      if (fingers.size === 2) { pinch(event); return; }
      fingers.set(event.pointerId, event);
    }
    if (moving) { view.pan(event.clientX - moving.clientX, event.clientY - moving.clientY); moving = event; return; }
    if (painting === event.pointerId) go(event);
    if (event.pointerType !== "touch") hover(event);
  });

  function pinch(event) {
    const [other] = [...fingers.values()].filter((one) => one.pointerId !== event.pointerId);
    const before = fingers.get(event.pointerId);
    fingers.set(event.pointerId, event);
    const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    view.pan((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
    if (far(before) > 0) view.zoomTo(view.scale * far(event) / far(before), { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 });
    zoomed();
  }

  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => {
    fingers.delete(event.pointerId);
    moving = null;
    if (painting === event.pointerId) { painting = null; kind === "pointerup" ? end(event) : drop(); }
  });
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.shiftKey) view.pan(-event.deltaY, -event.deltaX);
    else view.zoomTo(view.scale * 1.0015 ** -event.deltaY, event);
    zoomed();
  }, { passive: false });
}
