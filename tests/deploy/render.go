// Renders a chart where there is no helm: the language is Go's own text/template, as in helm, with the few functions
// that our chart uses. It reads {"files": {name: text}, "data": {...}} and answers {name: text}.
//
// What helm does beside rendering (schemas, hooks, releases) is left to helm, or to the test that calls this.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"text/template"
)

type input struct {
	Files map[string]string      `json:"files"`
	Data  map[string]interface{} `json:"data"`
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		stop(err)
	}
	out, err := render(in)
	if err != nil {
		stop(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		stop(err)
	}
}

func stop(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func render(in input) (map[string]string, error) {
	all := template.New("chart").Option("missingkey=error")
	all.Funcs(functions(all))
	for name, text := range in.Files {
		if _, err := all.New(name).Parse(text); err != nil {
			return nil, err
		}
	}
	out := map[string]string{}
	for name := range in.Files {
		if strings.HasSuffix(name, ".tpl") {
			continue
		}
		var text strings.Builder
		if err := all.ExecuteTemplate(&text, name, in.Data); err != nil {
			return nil, err
		}
		out[name] = text.String()
	}
	return out, nil
}

func functions(all *template.Template) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data interface{}) (string, error) {
			var text strings.Builder
			err := all.ExecuteTemplate(&text, name, data)
			return text.String(), err
		},
		"fail": func(why string) (string, error) { return "", errors.New(why) },
		"default": func(instead interface{}, given interface{}) interface{} {
			if given == nil || reflect.ValueOf(given).IsZero() {
				return instead
			}
			return given
		},
		"quote":      func(it interface{}) string { return fmt.Sprintf("%q", fmt.Sprint(it)) },
		"nindent":    func(n int, text string) string { return "\n" + indent(n, text) },
		"contains":   func(part, whole string) bool { return strings.Contains(whole, part) },
		"trimSuffix": func(end, text string) string { return strings.TrimSuffix(text, end) },
		"trunc": func(n int, text string) string {
			if len(text) > n {
				return text[:n]
			}
			return text
		},
		"sha256sum": func(text string) string {
			sum := sha256.Sum256([]byte(text))
			return hex.EncodeToString(sum[:])
		},
		"toYaml": func(it interface{}) string { return strings.TrimSuffix(yaml(it), "\n") },
	}
}

func indent(n int, text string) string {
	before := strings.Repeat(" ", n)
	return before + strings.ReplaceAll(text, "\n", "\n"+before)
}

// In blocks, since it is often put below other keys. A scalar of JSON is one of YAML too.
func yaml(it interface{}) string {
	var lines strings.Builder
	switch it := it.(type) {
	case map[string]interface{}:
		if len(it) == 0 {
			return "{}\n"
		}
		names := make([]string, 0, len(it))
		for name := range it {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			lines.WriteString(fmt.Sprintf("%q:%s", name, below(it[name])))
		}
	case []interface{}:
		if len(it) == 0 {
			return "[]\n"
		}
		for _, one := range it {
			lines.WriteString("-" + below(one))
		}
	default:
		text, err := json.Marshal(it)
		if err != nil {
			stop(err)
		}
		return string(text) + "\n"
	}
	return lines.String()
}

func below(it interface{}) string {
	text := yaml(it)
	if strings.HasPrefix(text, "\"") && strings.Contains(text, "\":") || strings.HasPrefix(text, "-") {
		return "\n" + indent(2, strings.TrimSuffix(text, "\n")) + "\n"
	}
	return " " + text
}
