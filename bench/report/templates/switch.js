for (const bar of document.querySelectorAll('.switch')) {
  const figure = bar.closest('figure'), output = bar.querySelector('output'), notes = JSON.parse(bar.dataset.notes);
  const show = () => {
    const view = [...bar.querySelectorAll('input:checked')].map(input => input.value).join(' ');
    for (const layer of figure.querySelectorAll('.view')) {
      const chosen = layer.dataset.view === view;
      layer.classList.toggle('shown', chosen);
      if (chosen) layer.closest('svg').setAttribute('aria-label', layer.dataset.alt);
    }
    output.value = notes[view];
  };
  bar.addEventListener('change', show);
  bar.hidden = false;
  show();
}
