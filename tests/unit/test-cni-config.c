/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cni/config.h"
#include "cni/environment.h"
#include "cni/result.h"
#include "shared/rpc.h"

/* Quotes are written as ' here. */
static json_t *json(const char *text)
{
        char *copy = strdup(text);
        json_t *j;

        for (char *p = copy; *p; p++)
                if (*p == '\'')
                        *p = '"';
        j = json_loads(copy, JSON_DECODE_ANY, NULL);
        free(copy);
        assert_non_null(j);
        return j;
}

/* --- the configuration ------------------------------------------------------------------------ */

#define BASE "'cniVersion': '1.1.0', 'name': 'pods', 'type': 'slim-cni'"

static void test_config(void **state)
{
        _cleanup_json_ json_t *j = json(
            "{" BASE
            ", 'network': 'blue', 'runDir': '/run/x', 'dns': {'nameservers': ['10.0.0.1'], "
            "'domain': 'example'}, 'runtimeConfig': {}, 'ipam': 7, 'capabilities': {'ips': true}}");
        struct cni_error e = {};
        struct cni_config c;

        assert_int_equal(cni_config_parse(j, &c, &e), 0);
        assert_int_equal(c.version, CNI_1_1_0);
        assert_string_equal(c.name, "pods");
        assert_string_equal(c.network, "blue");
        assert_string_equal(c.run_dir, "/run/x");
        assert_non_null(c.dns);
        assert_non_null(c.runtime);
        assert_null(c.previous);
        assert_null(c.valid);
}

static void test_config_defaults(void **state)
{
        _cleanup_json_ json_t *j = json("{" BASE ", 'network': null, 'prevResult': null}");
        struct cni_error e = {};
        struct cni_config c;

        assert_int_equal(cni_config_parse(j, &c, &e), 0);
        assert_null(c.network);
        assert_string_equal(c.run_dir, "/run/slim");
        assert_null(c.previous);
}

static void refused(const char *text, enum cni_code code)
{
        _cleanup_json_ json_t *j = json(text);
        struct cni_error e = {};
        struct cni_config c;

        assert_int_equal(cni_config_parse(j, &c, &e), -EINVAL);
        assert_int_equal(e.code, code);
        assert_non_null(e.message);
        assert_null(strchr(e.message, '\n'));
        cni_error_done(&e);
}

static void test_config_refused(void **state)
{
        refused("{}", CNI_ERROR_VERSION);
        refused("{'cniVersion': '0.2.0', 'name': 'x'}", CNI_ERROR_VERSION);
        refused("{'cniVersion': '1.1', 'name': 'x'}", CNI_ERROR_VERSION);
        refused("{'cniVersion': 1.1, 'name': 'x'}", CNI_ERROR_CONFIG);
        refused("{'cniVersion': '1.1.0'}", CNI_ERROR_CONFIG);
        refused("{'cniVersion': '1.1.0', 'name': 5}", CNI_ERROR_CONFIG);
        refused("{'cniVersion': '1.1.0', 'name': ''}", CNI_ERROR_CONFIG);
        refused("{'cniVersion': '1.1.0', 'name': 'a/b'}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'network': 5}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'network': 'Blue'}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'network': ''}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'runDir': ['/run']}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'runDir': 'run'}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'portsHeld': 1}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'dns': []}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'dns': {'nameservers': '10.0.0.1'}}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'dns': {'search': [1]}}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'dns': {'domain': {}}}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'runtimeConfig': 'x'}", CNI_ERROR_CONFIG);
        refused("{" BASE ", 'prevResult': 'x'}", CNI_ERROR_CONFIG);
}

static void test_load(void **state)
{
        static const char *const bad[] = {"", "{", "[]", "7", "null", "\"x\"", "{}}", "{\"a\":}"};

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct cni_error e = {};
                json_t *j = NULL;

                assert_int_equal(cni_config_load(bad[i], strlen(bad[i]), &j, &e), -EINVAL);
                assert_int_equal(e.code, CNI_ERROR_DECODE);
                assert_null(j);
                cni_error_done(&e);
        }
}

/* --- runtimeConfig ---------------------------------------------------------------------------- */

static void runtime_is(const char *runtime, const char *expected)
{
        _cleanup_json_ json_t *j = json(runtime), *parameters = json_object(),
                              *want = json(expected);
        struct cni_error e = {};

        assert_int_equal(cni_runtime_parse(j, parameters, &e), 0);
        if (!json_equal(parameters, want))
                fail_msg("%s: %s", runtime, json_dumps(parameters, 0));
}

static void test_runtime(void **state)
{
        runtime_is("{}", "{}");
        runtime_is("{'mac': 5, 'bandwidth': null}", "{}");
        runtime_is("{'bandwidth': {'ingressRate': 1000000, 'ingressBurst': 8, 'egressRate': 2000, "
                   "'egressBurst': 2147483647}}",
                   "{'limits': {'ingress': 1000000, 'egress': 2000}}");
        runtime_is("{'bandwidth': {'ingressRate': 0, 'egressRate': 5000}}",
                   "{'limits': {'egress': 5000}}");
        runtime_is("{'bandwidth': {'ingressRate': 0}}", "{}");
        runtime_is("{'portMappings': []}", "{}");
        runtime_is("{'portMappings': [{'hostPort': 8080, 'containerPort': 80, 'protocol': 'TCP', "
                   "'hostIP': ''}, {'hostPort': 53, 'containerPort': 5353, 'protocol': 'udp', "
                   "'hostIP': '192.0.2.1'}, {'hostPort': 8080, 'containerPort': 80, 'hostIP': "
                   "'::1', 'protocol': 'udp'}, {'hostPort': 0, 'containerPort': 9}]}",
                   "{'publish': ['8080:80/tcp', '192.0.2.1:53:5353/udp', '[::1]:8080:80/udp']}");
        runtime_is("{'ips': ['10.77.0.9/16', 'fd00:0::9']}",
                   "{'address': '10.77.0.9', 'address6': 'fd00::9'}");
}

static void runtime_refused(const char *runtime)
{
        _cleanup_json_ json_t *j = json(runtime), *parameters = json_object();
        struct cni_error e = {};

        if (cni_runtime_parse(j, parameters, &e) == 0)
                fail_msg("%s was taken", runtime);
        assert_int_equal(e.code, CNI_ERROR_CONFIG);
        assert_null(strchr(e.message, '\n'));
        cni_error_done(&e);
}

static void test_runtime_refused(void **state)
{
        static const char *const bad[] = {
            "{'bandwidth': []}",
            "{'bandwidth': {'ingressRate': '1M'}}",
            "{'bandwidth': {'ingressRate': 1.5}}",
            "{'bandwidth': {'egressRate': -1}}",
            "{'bandwidth': {'egressRate': 999}}",
            "{'bandwidth': {'egressRate': 9000000000000000000}}",
            "{'bandwidth': {'egressBurst': 'x'}}",
            "{'portMappings': {}}",
            "{'portMappings': ['80:80']}",
            "{'portMappings': [{'hostPort': 80}]}",
            "{'portMappings': [{'hostPort': 65536, 'containerPort': 80}]}",
            "{'portMappings': [{'hostPort': '80', 'containerPort': 80}]}",
            "{'portMappings': [{'hostPort': 80, 'containerPort': -80}]}",
            "{'portMappings': [{'hostPort': 80, 'containerPort': 80, 'protocol': 'sctp'}]}",
            "{'portMappings': [{'hostPort': 80, 'containerPort': 80, 'protocol': 6}]}",
            "{'portMappings': [{'hostPort': 80, 'containerPort': 80, 'hostIP': 'x'}]}",
            "{'portMappings': [{'hostPort': 80, 'containerPort': 80, 'hostIP': 7}]}",
            "{'ips': '10.0.0.1'}",
            "{'ips': [10]}",
            "{'ips': ['10.0.0.1/33']}",
            "{'ips': ['10.0.0.1/']}",
            "{'ips': ['ten']}",
            "{'ips': ['10.0.0.1', '10.0.0.2']}",
        };

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                runtime_refused(bad[i]);
        runtime_refused("{'portMappings': [{'hostPort': 80, 'containerPort': 80}, {'hostPort': 80, "
                        "'containerPort': 81}]}");
}

/* --- the environment -------------------------------------------------------------------------- */

static void args_are(const char *text, const char *pod, const char *namespace)
{
        _cleanup_(cni_args_done) struct cni_args a = {};
        struct cni_error e = {};

        assert_int_equal(cni_args_parse(text, &a, &e), 0);
        assert_int_equal(!a.pod, !pod);
        assert_int_equal(!a.namespace, !namespace);
        if (pod)
                assert_string_equal(a.pod, pod);
        if (namespace)
                assert_string_equal(a.namespace, namespace);
}

static void args_refused(const char *text)
{
        struct cni_args a;
        struct cni_error e = {};

        assert_int_equal(cni_args_parse(text, &a, &e), -EINVAL);
        assert_int_equal(e.code, CNI_ERROR_ENVIRONMENT);
        cni_error_done(&e);
}

static void test_args(void **state)
{
        args_are(NULL, NULL, NULL);
        args_are("K8S_POD_NAME=web", "web", NULL);
        args_are("K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop;K8S_POD_UID=1", "web", "shop");
        args_are("IgnoreUnknown=1;FOO=BAR;K8S_POD_NAME=web", "web", NULL);
        args_are("FOO=BAR;K8S_POD_NAME=;IgnoreUnknown=true", NULL, NULL);
        args_are("K8S_POD_NAME=a;K8S_POD_NAME=b", "b", NULL);
        args_refused("FOO=BAR");
        args_refused("IgnoreUnknown=0;FOO=BAR");
        args_refused("K8S_POD_NAME");
        args_refused("IgnoreUnknown=1;=x");
        args_refused("IgnoreUnknown=1;");
        args_refused("IgnoreUnknown=1;;K8S_POD_NAME=web");
}

static void environment(const char *id, const char *netns, const char *interface)
{
        setenv("CNI_CONTAINERID", id, 1);
        setenv("CNI_NETNS", netns, 1);
        setenv("CNI_IFNAME", interface, 1);
}

static void environment_refused(const char *id, const char *netns, const char *interface,
                                const char *named)
{
        struct cni_environment env;
        struct cni_error e = {};

        environment(id, netns, interface);
        assert_int_equal(cni_environment_read(true, &env, &e), -EINVAL);
        assert_int_equal(e.code, CNI_ERROR_ENVIRONMENT);
        assert_non_null(strstr(e.message, named));
        cni_error_done(&e);
}

static void test_environment(void **state)
{
        struct cni_environment env;
        struct cni_error e = {};

        environment("Abc_1.2-3", "/run/netns/x", "eth0");
        assert_int_equal(cni_environment_read(true, &env, &e), 0);
        assert_string_equal(env.container, "Abc_1.2-3");
        environment("a", "", "eth0");
        assert_int_equal(cni_environment_read(false, &env, &e), 0);
        assert_null(env.netns);
        environment_refused("", "/x", "eth0", "CNI_CONTAINERID");
        environment_refused("_a", "/x", "eth0", "CNI_CONTAINERID");
        environment_refused("a/b", "/x", "eth0", "CNI_CONTAINERID");
        environment_refused("a", "", "eth0", "CNI_NETNS");
        environment_refused("a", "x", "eth0", "CNI_NETNS");
        environment_refused("a", "/x", "", "CNI_IFNAME");
        environment_refused("a", "/x", "..", "CNI_IFNAME");
        environment_refused("a", "/x", "a b", "CNI_IFNAME");
        environment_refused("a", "/x", "a/b", "CNI_IFNAME");
        environment_refused("a", "/x", "0123456789abcdef", "CNI_IFNAME");
}

/* --- results ---------------------------------------------------------------------------------- */

static void test_results(void **state)
{
        _cleanup_json_ json_t *answer =
            json("{'endpoint': {'device': 'slim1', 'address': '10.77.0.2', 'address6': 'fd00::2'}, "
                 "'mtu': 1450, 'gateway': '169.254.1.1', 'gateway6': 'fe80::1', 'routes': "
                 "['0.0.0.0/0', 'fd00::/64'], 'device_mac': '02:00:00:00:00:01', 'interface_mac': "
                 "'02:00:00:00:00:02'}");
        struct cni_environment env = {.interface = "eth0", .netns = "/run/netns/x"};

        for (unsigned int v = 0; v < CNI_VERSION_MAX; v++) {
                struct cni_config c = {.version = (enum cni_version)v};
                _cleanup_json_ json_t *result = cni_result(&c, &env, answer);
                bool old = v < CNI_1_0_0, mtu = v >= CNI_1_1_0;
                char expected[1024];
                _cleanup_json_ json_t *want = NULL;

                snprintf(expected, sizeof(expected),
                         "{'cniVersion': '%s', 'interfaces': [{'name': 'slim1', 'mac': "
                         "'02:00:00:00:00:01'%s}, {'name': 'eth0', 'mac': '02:00:00:00:00:02', "
                         "'sandbox': '/run/netns/x'%s}], 'ips': [{%s'address': '10.77.0.2/32', "
                         "'gateway': '169.254.1.1', 'interface': 1}, {%s'address': 'fd00::2/128', "
                         "'gateway': 'fe80::1', 'interface': 1}], 'routes': [{'dst': '0.0.0.0/0', "
                         "'gw': '169.254.1.1'}, {'dst': 'fd00::/64', 'gw': 'fe80::1'}], 'dns': {}}",
                         cni_version_name(c.version), mtu ? ", 'mtu': 1450" : "",
                         mtu ? ", 'mtu': 1450" : "", old ? "'version': '4', " : "",
                         old ? "'version': '6', " : "");
                want = json(expected);
                assert_non_null(result);
                assert_true(json_equal(result, want));
        }
}

static void test_no_result(void **state)
{
        static const char *const bad[] = {"{}", "{'endpoint': {}, 'mtu': 1}", "{'endpoint': []}"};
        struct cni_environment env = {.interface = "eth0", .netns = "/run/netns/x"};
        struct cni_config c = {};

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                _cleanup_json_ json_t *answer = json(bad[i]);

                assert_null(cni_result(&c, &env, answer));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_config),  cmocka_unit_test(test_config_defaults),
            cmocka_unit_test(test_load),    cmocka_unit_test(test_config_refused),
            cmocka_unit_test(test_runtime), cmocka_unit_test(test_runtime_refused),
            cmocka_unit_test(test_args),    cmocka_unit_test(test_environment),
            cmocka_unit_test(test_results), cmocka_unit_test(test_no_result),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
