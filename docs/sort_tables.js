// Tables with numbers are sorted by the column whose heading is clicked; a second click turns round.
(function () {
  "use strict";
  function value(row, column) {
    var text = row.cells[column].textContent.trim();
    var number = parseFloat(text.replace(/,/g, "").replace("−", "-"));
    return isNaN(number) ? text : number;
  }
  function compare(a, b) {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1; // what is not a number comes last
  }
  function sortable(table) {
    table.classList.add("sortable");
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
      var up = head.textContent.indexOf("↑") < 0; // best first
      head.addEventListener("click", function () {
        var body = table.tBodies[0];
        var rows = Array.prototype.slice.call(body.rows);
        rows.sort(function (one, other) {
          var a = value(one, column), b = value(other, column);
          var numbers = typeof a === "number" && typeof b === "number";
          return numbers && !up ? compare(b, a) : compare(a, b);
        });
        up = !up;
        rows.forEach(function (row) { body.appendChild(row); });
      });
    });
  }
  document.addEventListener("DOMContentLoaded", function () {
    if (!document.querySelector("#leaderboard")) return;
    document.querySelectorAll(".md-content table").forEach(function (table) {
      if (table.tHead && table.tBodies.length) sortable(table);
      Array.prototype.forEach.call(table.rows, function (row) {
        if (/quoted$/.test(row.cells[row.cells.length - 1].textContent.trim())) {
          row.classList.add("quoted");
        }
      });
    });
  });
})();
