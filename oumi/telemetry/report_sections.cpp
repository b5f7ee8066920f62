#include "oumi/telemetry/report_sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "oumi/base/strings.h"
#include "oumi/telemetry/html.h"
#include "oumi/telemetry/png_encoder.h"

namespace oumi {

namespace {

constexpr std::size_t kMaxMatrixTable = 40;  // classes; larger matrices are shown as an image
constexpr std::size_t kMaxClassRows = 200;

struct Confusion {
  std::size_t actual, predicted;
  std::int64_t count;
};

std::string class_name(const EvaluationReport& evaluation, std::size_t i) {
  return i < evaluation.class_names.size() ? evaluation.class_names[i] : std::to_string(i);
}

std::string number_cell(double value) { return cat("<td class=\"n\">", display_number(value), "</td>"); }

double share_of_row(const std::vector<std::int64_t>& row, std::size_t column) {
  const double sum = std::accumulate(row.begin(), row.end(), 0.0);
  return sum > 0 ? static_cast<double>(row[column]) / sum : 0;
}

std::string matrix_table(const EvaluationReport& evaluation) {
  const auto& matrix = evaluation.confusion_matrix;
  std::string html = "<table class=\"matrix\"><thead><tr><th></th>";
  for (std::size_t j = 0; j < matrix.size(); ++j)
    html += cat("<th><span>", escape_html(class_name(evaluation, j)), "</span></th>");
  html += "</tr></thead><tbody>";
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    const std::string actual = escape_html(class_name(evaluation, i));
    html += cat("<tr><th title=\"", actual, "\">", actual, "</th>");
    for (std::size_t j = 0; j < matrix.size(); ++j) {
      const double share = share_of_row(matrix[i], j);
      // Under a square root the rare confusions, which are the interesting ones, can still be seen.
      html += fmt::format("<td class=\"{}\" style=\"background:rgba(var(--heat),{:.3f})\" title=\"{} → {}: {:.1f}%\">{}</td>",
                          share > 0.3         ? "strong"
                          : matrix[i][j] == 0 ? "zero"
                                              : "",
                          std::sqrt(share), actual, escape_html(class_name(evaluation, j)), share * 100, matrix[i][j]);
    }
    html += "</tr>";
  }
  return html + "</tbody></table>";
}

std::string matrix_image(const EvaluationReport& evaluation) {
  const auto& matrix = evaluation.confusion_matrix;
  // Neighbours are merged where there are more classes than pixels on a screen.
  const std::size_t side = std::min<std::size_t>(matrix.size(), 1000);
  std::vector<double> shares(side * side, 0);
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    const double sum = std::accumulate(matrix[i].begin(), matrix[i].end(), 0.0);
    if (sum <= 0) continue;
    for (std::size_t j = 0; j < matrix.size(); ++j) {
      double& share = shares[i * side / matrix.size() * side + j * side / matrix.size()];
      share = std::max(share, static_cast<double>(matrix[i][j]) / sum);
    }
  }
  std::vector<std::uint8_t> pixels;
  for (const double share : shares) {
    const double depth = std::sqrt(std::min(share, 1.0));
    for (const auto& [light, dark] : {std::pair{255, 24}, {255, 60}, {255, 150}})
      pixels.push_back(static_cast<std::uint8_t>(light + (dark - light) * depth));
  }
  const auto size = static_cast<std::int64_t>(side);
  return cat("<img class=\"pixels\" style=\"width:100%;max-width:560px\" alt=\"confusion matrix\" src=\"data:image/png;base64,",
             encode_base64(encode_png(pixels, size, size, 3)), "\">");
}

std::string largest_confusions(const EvaluationReport& evaluation) {
  std::vector<Confusion> confusions;
  const auto& matrix = evaluation.confusion_matrix;
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    for (std::size_t j = 0; j < matrix.size(); ++j) {
      if (i != j && matrix[i][j] > 0) confusions.push_back({i, j, matrix[i][j]});
    }
  }
  const std::size_t shown = std::min<std::size_t>(confusions.size(), 8);
  std::partial_sort(confusions.begin(), confusions.begin() + static_cast<std::ptrdiff_t>(shown), confusions.end(),
                    [](const Confusion& a, const Confusion& b) {
                      return std::tuple(-a.count, a.actual, a.predicted) < std::tuple(-b.count, b.actual, b.predicted);
                    });
  if (shown == 0) return "";
  std::string html =
      "<div class=\"card\"><b>Largest confusions</b><table class=\"wide\"><thead><tr><th>actual</th><th>predicted</th><th "
      "class=\"n\">count</th><th class=\"n\">of the class</th></tr></thead><tbody>";
  for (std::size_t k = 0; k < shown; ++k) {
    const auto& [i, j, count] = confusions[k];
    html += fmt::format("<tr><td>{}</td><td>{}</td>{}<td class=\"n\">{:.1f}%</td></tr>", escape_html(class_name(evaluation, i)),
                        escape_html(class_name(evaluation, j)), number_cell(static_cast<double>(count)),
                        share_of_row(matrix[i], j) * 100);
  }
  return html + "</tbody></table></div>";
}

std::string class_table(const EvaluationReport& evaluation) {
  if (evaluation.per_class.empty()) return "";
  std::string html =
      "<div class=\"card scroll\"><b>By class</b><table class=\"wide\"><thead><tr><th>class</th><th "
      "class=\"n\">precision</th><th class=\"n\">recall</th><th class=\"n\">F1</th><th "
      "class=\"n\">samples</th></tr></thead><tbody>";
  for (std::size_t i = 0; i < std::min(evaluation.per_class.size(), kMaxClassRows); ++i) {
    const ClassScores& score = evaluation.per_class[i];
    html += fmt::format(
        "<tr><td>{}</td><td class=\"n\">{:.3f}</td><td class=\"n\">{:.3f}</td><td class=\"n\">{:.3f}</td>{}</tr>",
        escape_html(score.name), score.precision, score.recall, score.f1, number_cell(static_cast<double>(score.support)));
  }
  html += "</tbody></table>";
  if (evaluation.per_class.size() > kMaxClassRows)
    html += cat("<p class=\"note\">and ", evaluation.per_class.size() - kMaxClassRows, " more classes</p>");
  return html + "</div>";
}

std::string sample_card(const SamplePrediction& sample) {
  const bool judged = !sample.label.empty();
  const bool right = judged && sample.label == sample.prediction;
  std::string html = cat("<div class=\"card sample", !judged ? "" : right ? " right" : " wrong", "\">");
  if (sample.image.has_value()) {
    const Thumbnail& image = *sample.image;
    html += cat("<img", std::max(image.width, image.height) <= 96 ? " class=\"pixels\"" : "", " alt=\"sample ",
                escape_html(sample.id), "\" src=\"data:image/png;base64,",
                encode_base64(encode_png(image.pixels, image.width, image.height, image.channels)), "\">");
  }
  if (!sample.text.empty()) html += cat("<div class=\"text\">", escape_html(sample.text), "</div>");
  html += cat("<b class=\"", !judged ? "" : right ? "good" : "bad", "\">", escape_html(sample.prediction), "</b>");
  if (judged && !right) html += cat("<small>actual: ", escape_html(sample.label), "</small>");
  std::string small = sample.id.empty() ? "" : "#" + escape_html(sample.id);
  if (sample.probability.has_value() && std::isfinite(*sample.probability)) {
    const double percent = std::clamp(*sample.probability, 0.0, 1.0) * 100;
    small += fmt::format("{}{:.1f}%", small.empty() ? "" : " · ", percent);
    html += fmt::format("<div class=\"p\"><i style=\"width:{:.1f}%\"></i></div>", percent);
  }
  return html + "<small>" + small + "</small></div>";
}

void flatten(const Json& json, const std::string& name, std::string& rows) {
  const bool nested = json.is_structured() && !json.empty();
  const bool plain_list =
      json.is_array() && std::none_of(json.begin(), json.end(), [](const Json& item) { return item.is_structured(); });
  if (json.is_object() && nested) {
    for (const auto& [key, value] : json.items()) flatten(value, name.empty() ? key : name + "." + key, rows);
  } else if (json.is_array() && nested && !plain_list) {
    for (std::size_t i = 0; i < json.size(); ++i) flatten(json[i], cat(name, "[", i, "]"), rows);
  } else {
    std::string text;
    if (plain_list) {
      for (const Json& item : json)
        text += (text.empty() ? "" : ", ") +
                (item.is_string() ? item.get<std::string>() : item.dump(-1, ' ', false, Json::error_handler_t::replace));
    } else if (json.is_string()) {
      text = json.get<std::string>();
    } else if (json.is_number_unsigned() && name.ends_with("_bytes")) {
      text = format_bytes(json.get<std::uint64_t>());
    } else if (json.is_number_float()) {
      text = display_number(json.get<double>());
    } else if (!json.is_null()) {
      text = json.dump();
    }
    if (!text.empty()) rows += cat("<tr><th>", escape_html(name), "</th><td>", escape_html(text), "</td></tr>");
  }
}

}  // namespace

std::string final_metrics_section(const MetricTable& metrics) {
  std::string rows;
  for (const MetricSeries& series : metrics.series()) {
    if (series.name == "epoch" || series.points.empty()) continue;
    const MetricPoint* lowest = nullptr;
    const MetricPoint* highest = nullptr;
    for (const MetricPoint& point : series.points) {
      if (!std::isfinite(point.value)) continue;
      if (lowest == nullptr || point.value < lowest->value) lowest = &point;
      if (highest == nullptr || point.value > highest->value) highest = &point;
    }
    const bool several = series.points.size() > 1;
    const auto extreme = [&](const MetricPoint* point) {
      if (point == nullptr || !several) return std::string("<td class=\"n\"></td>");
      return cat("<td class=\"n\" title=\"at step ", display_number(point->step), "\">", display_number(point->value), "</td>");
    };
    rows += cat("<tr><td>", escape_html(series.name), "</td>", number_cell(series.points.back().value), extreme(lowest),
                extreme(highest), number_cell(static_cast<double>(series.points.size())), "</tr>");
  }
  if (rows.empty()) return "";
  return cat(
      "<h2>Final metrics</h2><div class=\"card scroll\"><table class=\"wide\"><thead><tr><th>metric</th><th "
      "class=\"n\">last</th><th class=\"n\">lowest</th>"
      "<th class=\"n\">highest</th><th class=\"n\">values</th></tr></thead><tbody>",
      rows, "</tbody></table></div>\n");
}

std::string evaluation_section(const EvaluationReport& evaluation) {
  if (evaluation.confusion_matrix.empty() && evaluation.per_class.empty()) return "";
  std::string html = "<h2>Evaluation</h2><div class=\"split\">";
  if (!evaluation.confusion_matrix.empty()) {
    html += cat(
        "<div class=\"card scroll\"><b>Confusion matrix</b> <span class=\"note\">rows: actual, columns: predicted</span>",
        evaluation.confusion_matrix.size() <= kMaxMatrixTable ? matrix_table(evaluation) : matrix_image(evaluation), "</div>");
  }
  const std::string tables = class_table(evaluation) + largest_confusions(evaluation);
  if (!tables.empty()) html += cat("<div style=\"display:grid;gap:14px\">", tables, "</div>");
  return html + "</div>\n";
}

std::string samples_section(const std::vector<SamplePrediction>& samples, std::size_t limit) {
  if (samples.empty()) return "";
  const auto judged = static_cast<std::size_t>(
      std::count_if(samples.begin(), samples.end(), [](const auto& sample) { return !sample.label.empty(); }));
  const auto right = static_cast<std::size_t>(std::count_if(samples.begin(), samples.end(), [](const auto& sample) {
    return !sample.label.empty() && sample.label == sample.prediction;
  }));
  std::string html = "<h2>Sample predictions</h2><p class=\"sub\">";
  if (judged > 0) html += cat(right, " of ", judged, " right");
  if (samples.size() > limit) html += cat(judged > 0 ? "; " : "", "the first ", limit, " of ", samples.size());
  html += "</p><div class=\"samples\">";
  for (std::size_t i = 0; i < std::min(samples.size(), limit); ++i) html += sample_card(samples[i]);
  return html + "</div>\n";
}

std::string config_section(const std::string& yaml) {
  if (yaml.empty()) return "";
  std::string html = "<details><summary>Config</summary><pre>";
  for (const std::string& line : split(yaml, '\n')) {
    const std::size_t begin = line.find_first_not_of(" -");
    const std::size_t colon = begin == std::string::npos ? begin : line.find(':', begin);
    const bool is_key = colon != std::string::npos && line.find_first_of(" \"'#", begin) > colon;
    if (is_key)
      html += cat(escape_html(line.substr(0, begin)), "<span class=\"k\">", escape_html(line.substr(begin, colon - begin)),
                  "</span>", escape_html(line.substr(colon)), "\n");
    else
      html += escape_html(line) + "\n";
  }
  return html + "</pre></details>\n";
}

std::string json_section(const std::string& title, const Json& json) {
  std::string rows;
  flatten(json, "", rows);
  if (rows.empty()) return "";
  return cat("<details><summary>", escape_html(title), "</summary><div class=\"scroll\"><table><tbody>", rows,
             "</tbody></table></div></details>\n");
}

}  // namespace oumi
