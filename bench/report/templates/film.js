for (const film of document.querySelectorAll('.film')) {
  const bar = film.querySelector('.bar');
  if (!bar) continue;
  const slider = bar.querySelector('input'), output = bar.querySelector('output');
  const names = slider.dataset.frames.split('|');
  const show = () => {
    for (const frame of film.querySelectorAll('.frame')) frame.classList.toggle('shown', frame.classList.contains('f' + slider.value));
    output.value = names[slider.value];
    slider.setAttribute('aria-valuetext', names[slider.value]);
  };
  slider.addEventListener('input', show);
  bar.hidden = false;
  show();
}
