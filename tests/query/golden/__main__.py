"""Write the golden file anew; read the difference before you commit it."""

from tests.query.golden.page import PATH, page

if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
