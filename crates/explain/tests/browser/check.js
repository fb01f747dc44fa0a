// What is wrong with the layout of the page, in words: nothing may be seen outside of its place.
(() => {
  const wrong = [], width = innerWidth;
  const say = (element, why) => wrong.push(`${element.className || element.tagName} ${JSON.stringify(element.textContent.slice(0, 40))}: ${why}`);
  const textBox = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return range.getBoundingClientRect();
  };
  const shown = (element) => element.getClientRects().length > 0;
  if (document.documentElement.scrollWidth > width) wrong.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const label of document.querySelectorAll('.seg b, .phase b')) {
    if (!shown(label)) continue;
    const text = textBox(label), box = label.parentElement.getBoundingClientRect();
    if (text.right > box.right + 0.5 || text.left < box.left - 0.5) say(label, `${text.right} of ${box.right}`);
    if (text.height > box.height + 4) say(label, 'has two lines');
  }
  const chart = document.getElementById('chart').getBoundingClientRect();
  for (const label of document.querySelectorAll('.bounds span, .exit')) {
    const text = label.getBoundingClientRect();
    if (shown(label) && text.right > chart.right + 0.5) say(label, `${text.right} of ${chart.right}`);
  }
  for (const name of document.querySelectorAll('.name > *')) {
    const box = name.getBoundingClientRect(), room = name.parentElement.getBoundingClientRect();
    if (shown(name) && (box.right > room.right + 0.5 || box.bottom > room.bottom + 4)) say(name, 'leaves its cell');
  }
  for (const element of document.querySelectorAll('header *, #panel:not([hidden]) *')) {
    const box = element.getBoundingClientRect();
    if (shown(element) && (box.right > width + 0.5 || box.left < -0.5)) say(element, `${box.left} to ${box.right}`);
  }
  const marks = [...document.querySelectorAll('#axis span')].map((m) => [m, textBox(m)]);
  marks.forEach(([mark, box], i) => {
    if (i > 0 && box.left < marks[i - 1][1].right) say(mark, 'lies on the one before');
    if (box.right > chart.right) say(mark, 'leaves the chart');
  });
  if (!marks.length) wrong.push('there is no scale');
  return wrong;
})()
