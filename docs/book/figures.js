// Where scripts run, a figure's picture makes room for the interactive figure; the library is loaded once, and only
// when the first figure comes into view.
(() => {
  let library;
  const plotly = () =>
    (library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const here = document.querySelector('script[src*="figures.js"]').src;
      script.src = new URL("plotly.min.js", here).href;
      script.onload = () => resolve(window.Plotly);
      script.onerror = reject;
      document.head.append(script);
    }));

  const draw = async (figure) => {
    const content = JSON.parse(figure.querySelector("script").textContent);
    const picture = figure.querySelector("img");
    const Plotly = await plotly();
    const place = document.createElement("div");
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", picture ? picture.alt : figure.textContent.trim());
    figure.append(place);
    const layout = { ...content.layout, autosize: true };
    delete layout.width;
    await Plotly.newPlot(place, content.data, layout, { responsive: true, displaylogo: false });
    picture?.setAttribute("hidden", "");
  };

  // The theme gives buttons that have words another name; a screen reader should say the words.
  const nameByWords = () => {
    for (const one of document.querySelectorAll("button.search-button-field, summary")) one.removeAttribute("aria-label");
  };

  document.addEventListener("DOMContentLoaded", () => {
    nameByWords();
    const watch = new IntersectionObserver((seen) => {
      for (const one of seen.filter((entry) => entry.isIntersecting)) {
        watch.unobserve(one.target);
        draw(one.target).catch(() => {});
      }
    });
    document.querySelectorAll("figure.rps-figure").forEach((figure) => watch.observe(figure));
  });
})();
