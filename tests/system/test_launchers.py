from tests.contracts.launcher import LauncherContract


class TestLocal(LauncherContract):
    launcher = "local"


class TestInProcess(LauncherContract):
    launcher = "in-process"
