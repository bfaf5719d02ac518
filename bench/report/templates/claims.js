{
  const bar = document.querySelector('.filters'), output = bar.querySelector('output');
  const selects = [...bar.querySelectorAll('select')];
  // A place that is taken across all values of something fits each of them.
  const fits = cell => selects.every(s => !s.value || !cell.dataset[s.name] || cell.dataset[s.name] === s.value);
  const show = () => {
    let shown = 0, all = 0;
    for (const table of document.querySelectorAll('table.places')) {
      const heads = [...table.tHead.rows[0].cells], rows = [...table.tBodies[0].rows];
      const columns = heads.map((_, column) => column === 0);
      for (const row of rows) {
        const kept = [...row.cells].map(cell => 'task' in cell.dataset && fits(cell));
        kept.forEach((keep, column) => { columns[column] ||= keep; });
        row.hidden = !kept.includes(true);
        shown += kept.filter(keep => keep).length;
        all += [...row.cells].filter(cell => 'task' in cell.dataset).length;
      }
      heads.forEach((head, column) => { for (const line of [head.parentElement, ...rows]) line.cells[column].hidden = !columns[column]; });
      table.closest('.scroll').hidden = rows.every(row => row.hidden);
    }
    output.value = output.dataset.text.replace('{shown}', shown).replace('{all}', all);
  };
  for (const select of selects) select.addEventListener('change', show);
  bar.hidden = false;
  show();
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('details.told-of:not([open])')];
    for (const details of opened) details.open = true;
  });
  addEventListener('afterprint', () => { for (const details of opened) details.open = false; });
}
