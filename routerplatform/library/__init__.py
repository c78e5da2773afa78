"""What stands behind `routerplatform.doors.library`: the platform inside somebody's Python program."""
