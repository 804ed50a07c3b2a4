"""How an editable install finds `fastnn.kernels`; all else about the build stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.editable_wheel import editable_wheel


class EditableByPath(editable_wheel):
    """An editable install by a link and a path, which type checkers understand, too.

    The link is fastnn/kernels, to kernels/, and the path is that of the clone. Without symbolic links the install is
    by an import hook, which only Python understands.
    """

    def finalize_options(self) -> None:
        """Make the link, and have setuptools take the packages for ones that lie where their names say."""
        super().finalize_options()
        link = Path("fastnn", "kernels")  # a build starts in the folder of this file
        try:
            link.symlink_to(Path("..", "kernels"), target_is_directory=True)
        except FileExistsError:
            if link.resolve() != Path("kernels").resolve():
                raise FileExistsError("fastnn/kernels must be a link to ../kernels, or absent; move it away") from None
        except OSError:
            return  # no symbolic links here
        self.package_dir = {"": "."}


setup(cmdclass={"editable_wheel": EditableByPath})
